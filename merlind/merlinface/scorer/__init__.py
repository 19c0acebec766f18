"""The face scorer: how well a name suits the face in a photo, judged offline on a CPU (docs/scorer.md).

A photo becomes a Judgement (apparent gender and age; photo.py, detect.py, judge.py), a name becomes NameStatistics
(names.py, guess.py), and formula.py makes a score of the two. It needs the extra ``merlind[scorer]``.
"""
