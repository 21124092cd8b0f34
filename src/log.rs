//! Logging through the `log` facade, of rare events only: peers that come and go, revocations, lost devices.

/// Logs at `info` level with feature `log`; otherwise only type-checks its arguments.
macro_rules! event {
    ($($arg:tt)+) => {{
        #[cfg(feature = "log")]
        ::log::info!($($arg)+);
        #[cfg(not(feature = "log"))]
        let _ = format_args!($($arg)+);
    }};
}
pub(crate) use event;
