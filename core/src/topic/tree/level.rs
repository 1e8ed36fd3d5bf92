//! The name of one level, without an allocation if it is short.

/// Longest name that needs no allocation.
const SHORT_BYTES_MAX: usize = 22;

/// The name of one topic level: 24 bytes, and an allocation only beyond 22.
#[derive(Clone, Debug)]
pub(super) enum Level {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

impl Default for Level {
    fn default() -> Self {
        Self::Short { length: 0, bytes: [0; SHORT_BYTES_MAX] }
    }
}

impl Level {
    pub(super) fn new(name: &str) -> Self {
        match u8::try_from(name.len()) {
            Ok(length) if name.len() <= SHORT_BYTES_MAX => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..name.len()].copy_from_slice(name.as_bytes());
                Self::Short { length, bytes }
            }
            Ok(_) | Err(_) => Self::Long(name.as_bytes().into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}
