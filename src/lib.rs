//! framelease
