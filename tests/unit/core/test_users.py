"""What a user may be called, and the form of a password."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.users import MAX_PASSWORD_BYTES, MAX_USER, normal_password, user_name


class UserNameTests(SynchronousTestCase):
    """Names of users."""

    def test_told_apart_after_nfc(self) -> None:
        """The same letters are the same user, however they are composed; case matters."""
        self.assertEqual(user_name("Zoe\u0308".encode()), "Zo\u00eb")
        self.assertNotEqual(user_name(b"ann"), user_name(b"Ann"))
        self.assertEqual(user_name("Анна Б.".encode()), "Анна Б.")

    def test_length(self) -> None:
        """The longest name is taken, in letters of four bytes too, and one that is longer isn't."""
        for letter in "a", "𝒜":
            self.assertEqual(len(user_name((letter * MAX_USER).encode())), MAX_USER)
            self.assertRaises(ValueError, user_name, (letter * (MAX_USER + 1)).encode())

    def test_refused(self) -> None:
        """What isn't printable UTF-8, or what our files can't hold, is no name."""
        for raw in (b"", b"\xff", b"a:b", b" a", b"a ", b"a\nb", b"a\0", b"#a", "a\u200bb".encode(), b"a" * 3000):
            self.assertRaises(ValueError, user_name, raw)


class PasswordTests(SynchronousTestCase):
    """Passwords."""

    def test_nfc(self) -> None:
        """The same letters are the same password, however they are composed."""
        self.assertEqual(normal_password("e\u0301".encode()), "\u00e9".encode())
        self.assertEqual(normal_password(b" two: words "), b" two: words ")

    def test_refused(self) -> None:
        """Nothing, too much, other than UTF-8 and control characters."""
        self.assertEqual(len(normal_password(b"a" * MAX_PASSWORD_BYTES)), MAX_PASSWORD_BYTES)
        for raw in (b"", b"a" * (MAX_PASSWORD_BYTES + 1), b"\xff", b"a\nb", b"\0"):
            self.assertRaises(ValueError, normal_password, raw)
