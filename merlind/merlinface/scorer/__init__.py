"""The face scorer: how well a name suits the face in a photo, judged offline on a CPU (docs/scorer.md).

A photo becomes a Judgement (apparent gender and age), a name becomes NameStatistics, and formula.py makes a score of
the two. It needs the extra ``merlind[scorer]``. Where to look:

- judgement.py, statistics.py: the values that pass between the parts, and why there may be none (Refused)
- photo.py, detect.py, judge.py, model.py: from a photo's bytes to a Judgement
- names.py: from a name to its NameStatistics, by keys.py (how names compare), short_forms.py, packed.py (the table that
  comes with merlind) and guess.py (from the letters)
- national.py: files of national statistics (encoding.py, archive.py, workbook.py: their bytes; columns.py: their rows;
  births.py: what they add up to), which merge.py puts beside our table
- worker.py: the process in which all of this runs; frames.py: what goes over its pipes
- pool.py, process.py, cache.py: merlind's side of the workers
- evaluate.py, ranking.py: how good it is, on portraits of people whose names are known
"""
