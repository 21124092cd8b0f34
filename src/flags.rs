//! Types for sets of flags of the kernel and the protocol.

/// What the crate does with flags, besides the few public methods.
pub(crate) trait Flags: Copy {
    /// Makes the set of these bits, including bits without a name.
    fn from_bits(bits: u32) -> Self;
    /// Makes the set of those bits that have a name.
    fn from_known_bits(bits: u32) -> Self;
    fn bits(self) -> u32;
    /// Returns the names of the flags that are set.
    fn names(self) -> Vec<&'static str>;

    fn intersects(self, other: Self) -> bool {
        self.bits() & other.bits() != 0
    }

    fn set(&mut self, flags: Self, on: bool) {
        let bits = if on { self.bits() | flags.bits() } else { self.bits() & !flags.bits() };
        *self = Self::from_bits(bits);
    }
}

/// Declares a set of flags: a struct of 32 bits with a constant for each flag.
macro_rules! flags {
    ($(#[$doc:meta])* $pub:vis struct $Name:ident {
        $($(#[$flag_doc:meta])* $vis:vis const $FLAG:ident = $bit:expr;)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        $pub struct $Name(u32);

        impl $Name {
            $($(#[$flag_doc])* $vis const $FLAG: Self = Self($bit);)+

            /// Returns `true` if all flags of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl $crate::flags::Flags for $Name {
            fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            fn from_known_bits(bits: u32) -> Self {
                Self(bits & ($($bit)|+))
            }

            fn bits(self) -> u32 {
                self.0
            }

            fn names(self) -> Vec<&'static str> {
                let all = [$((Self::$FLAG, stringify!($FLAG))),+];
                all.into_iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name).collect()
            }
        }

        impl std::ops::BitOr for $Name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl std::ops::BitAnd for $Name {
            type Output = Self;

            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl std::ops::BitOrAssign for $Name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        /// Returns the bits as the kernel or the protocol numbers them.
        impl From<$Name> for u32 {
            fn from(flags: $Name) -> Self {
                flags.0
            }
        }

        impl std::fmt::Debug for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let names = $crate::flags::Flags::names(*self).join(" | ");
                write!(f, "{}({:#x}: {names})", stringify!($Name), self.0)
            }
        }
    };
}
pub(crate) use flags;

#[cfg(test)]
mod tests {
    use super::Flags;

    flags! {
        /// A set with the lowest and the highest bit.
        pub struct Two {
            const LOW = 1;
            const HIGH = 0x8000_0000;
        }
    }

    #[test]
    fn from_bits_keeps_unknown_bits_and_from_known_bits_drops_them() {
        let both = Two::LOW | Two::HIGH;
        assert_eq!(Two::from_bits(0x8000_0003).bits(), 0x8000_0003);
        assert_eq!(Two::from_known_bits(u32::MAX), both);
        assert!(both.contains(Two::HIGH) && both.intersects(Two::LOW) && !Two::LOW.contains(both));
        assert!(Two::LOW.contains(Two::default()) && !Two::LOW.intersects(Two::default()));
        assert_eq!(format!("{:?}", Two::from_bits(0x8000_0002)), "Two(0x80000002: HIGH)");
        assert!(Two::default().names().is_empty());
        let mut flags = both;
        flags.set(Two::LOW, false);
        assert_eq!(flags, Two::HIGH);
        flags.set(Two::LOW, true);
        assert_eq!(flags, both);
    }
}
