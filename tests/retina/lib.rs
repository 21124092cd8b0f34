//! Empty: a package needs a library or a program to have tests.
