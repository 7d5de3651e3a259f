//! Passwords as `mosquitto_passwd` stores them: `$6$salt$hash`, SHA-512 of password and salt, and
//! `$7$iterations$salt$hash`, PBKDF2 with HMAC-SHA-512; salt and hash in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// More iterations than this are a mistake: a second or more for each connect.
pub const MOST_ITERATIONS: u32 = 10_000_000;

/// Bytes of a SHA-512.
const HASH_BYTES: usize = 64;

/// Bytes of a new salt, as mosquitto_passwd has it: Mosquitto reads no longer ones.
const SALT_BYTES: usize = 12;

/// How a new password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `$6$`: one SHA-512, for readers that know nothing else.
    Sha512,
    /// `$7$`: PBKDF2 with so many iterations, from 1 to [`MOST_ITERATIONS`].
    Pbkdf2(u32),
}

/// How one user's password is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Of PBKDF2; 0: one plain SHA-512.
    iterations: u32,
    salt: Box<[u8]>,
    hash: [u8; HASH_BYTES],
}

/// Why a text is no stored password, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongHash {
    /// What is wrong.
    pub text: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

const SET_AGAIN: &str = "set the password again: forebay passwd FILE USER";

impl Stored {
    /// Reads what stands behind the name and its colon.
    pub fn parse(text: &str) -> Result<Self, WrongHash> {
        let Some(rest) = text.strip_prefix('$') else {
            return Err(WrongHash {
                text: "the password is not hashed",
                hint: "hash the whole file: forebay passwd -U FILE",
            });
        };
        let parts: Vec<&str> = rest.split('$').collect();
        let (iterations, salt, hash) = match parts.as_slice() {
            ["6", salt, hash] => (0, salt, hash),
            ["7", iterations, salt, hash] => {
                let fine = |count: &u32| (1..=MOST_ITERATIONS).contains(count);
                let count = iterations.parse().ok().filter(fine).ok_or(WrongHash {
                    text: "the iterations of a $7$ hash are not a number from 1 to 10,000,000",
                    hint: SET_AGAIN,
                })?;
                (count, salt, hash)
            }
            ["6" | "7", ..] => {
                return Err(WrongHash {
                    text: "a hash is cut short or has a part too many",
                    hint: SET_AGAIN,
                });
            }
            _ => {
                return Err(WrongHash {
                    text: "a hash is neither $6$ (SHA-512) nor $7$ (PBKDF2)",
                    hint: SET_AGAIN,
                });
            }
        };
        let decode = |part: &str| STANDARD.decode(part).ok();
        match (decode(salt), decode(hash).and_then(|hash| hash.try_into().ok())) {
            (Some(salt), Some(hash)) => Ok(Self {
                iterations,
                salt: salt.into(),
                hash,
            }),
            (None, _) => Err(WrongHash {
                text: "a hash's salt is not base64",
                hint: SET_AGAIN,
            }),
            (_, None) => Err(WrongHash {
                text: "a hash is not 64 bytes in base64",
                hint: SET_AGAIN,
            }),
        }
    }

    /// Hashes `password` with a new salt.
    pub fn make(password: &[u8], scheme: Scheme) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        let iterations = match scheme {
            Scheme::Sha512 => 0,
            Scheme::Pbkdf2(count) => count.clamp(1, MOST_ITERATIONS),
        };
        let mut made = Self {
            iterations,
            salt: Box::new(salt),
            hash: [0; HASH_BYTES],
        };
        made.hash = made.hash_of(password);
        Ok(made)
    }

    /// What stands behind the name and its colon: [`parse`](Self::parse) takes it.
    pub fn to_text(&self) -> String {
        let (salt, hash) = (STANDARD.encode(&self.salt), STANDARD.encode(self.hash));
        match self.iterations {
            0 => format!("$6${salt}${hash}"),
            count => format!("$7${count}${salt}${hash}"),
        }
    }

    /// What no password fits: to spend the time on that a user would have cost.
    pub(super) fn nobody(iterations: u32) -> Self {
        Self {
            iterations,
            salt: Box::new([0; 12]),
            hash: [0; HASH_BYTES],
        }
    }

    #[cfg(test)]
    pub(super) fn with_salt(mut self, salt: &[u8]) -> Self {
        self.salt = salt.into();
        self
    }

    /// Iterations that a check takes.
    pub(super) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The stored hash with its salt: who changes the password changes this.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        (&self.salt, &self.hash)
    }

    /// Whether `password` is the one, in a time that does not say how near it came.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.hash_of(password).ct_eq(&self.hash).into()
    }

    fn hash_of(&self, password: &[u8]) -> [u8; HASH_BYTES] {
        let mut hash = [0; HASH_BYTES];
        match self.iterations {
            0 => {
                hash = Sha512::new()
                    .chain_update(password)
                    .chain_update(&self.salt)
                    .finalize()
                    .into()
            }
            count => pbkdf2::pbkdf2_hmac::<Sha512>(password, &self.salt, count, &mut hash),
        }
        hash
    }
}

/// The hash is not for logs.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by mosquitto_passwd 2.0.11.
    const MADE: [(&str, &str); 4] = [
        (
            "secret one",
            "$7$101$eFtbN09P0tGbE5mq$iVdxnijnwpqvHNkpFDaCQp8/0TeB1S0UDH9/wSqpEAEXPVyUbWxh0JLeVchR/kwXMBCLPctNkzDqxmU/w2w5+A==",
        ),
        (
            "pässwörd",
            "$7$101$CZeJ3LHu7pSmsUEY$x3JdQCUC/xVOSLejJ3ajKQMZbGezgfbC7qiyUmO4wsUSIBBCJUnjX++8F7iOA8B+FnawMlc+UZmiNTdRR8CdYw==",
        ),
        (
            "",
            "$7$101$ARcL3XY27VayjBIy$tyrNuKA9GmrCEeHV0ETYSaQYrHlAl6OKgYloDdmNDqmZKd5/9K1U6C+NpWHvmioKx386gmJbF3Plgui7Ip6YpA==",
        ),
        (
            "geheim",
            "$6$oTXWLDknf1Jdp2E7$mdPCsbfxbptWN5DHjQw/Oe6P+bWuUhoF3kzDMHLnc9SMYS4PRilFbkC+kb0NCZvIjsOg58aAjL0SlqwMywwM4g==",
        ),
    ];

    #[test]
    fn what_mosquitto_passwd_wrote_takes_its_password_and_no_other() {
        for (password, text) in MADE {
            let stored = Stored::parse(text).unwrap();
            assert!(stored.verify(password.as_bytes()), "{text}");
            for (other, _) in MADE.iter().filter(|(other, _)| *other != password) {
                assert!(!stored.verify(other.as_bytes()), "{other} for {text}");
            }
            assert!(!stored.verify(format!("{password} ").as_bytes()));
        }
    }

    #[test]
    fn what_is_made_is_read_again_and_no_two_are_alike() {
        for (scheme, start) in [(Scheme::Sha512, "$6$"), (Scheme::Pbkdf2(7), "$7$7$")] {
            for password in ["pässwörd", ""] {
                let made = Stored::make(password.as_bytes(), scheme).unwrap();
                let text = made.to_text();
                assert!(text.starts_with(start), "{text}");
                let read = Stored::parse(&text).unwrap();
                assert!(read == made && read.verify(password.as_bytes()), "{text}");
                assert!(!read.verify(b"other"));
                assert_ne!(Stored::make(password.as_bytes(), scheme).unwrap().to_text(), text);
            }
        }
        for (_, text) in MADE {
            assert_eq!(Stored::parse(text).unwrap().to_text(), text);
        }
    }

    #[test]
    fn what_is_no_hash_says_what_to_do() {
        let hash = MADE[3].1.rsplit('$').next().unwrap();
        let cases = [
            ("plain", "not hashed"),
            ("", "not hashed"),
            ("$5$c2FsdA==$aGFzaA==", "neither"),
            ("$argon2id$v=19$m=47104,t=1,p=1$c2FsdA$aGFzaA", "neither"),
            ("$6$c2FsdA==", "cut short"),
            ("$7$101$c2FsdA==", "cut short"),
            (&format!("$7$0$c2FsdA==${hash}"), "iterations"),
            (&format!("$7$99999999$c2FsdA==${hash}"), "iterations"),
            (&format!("$7$-1$c2FsdA==${hash}"), "iterations"),
            (&format!("$6$!$ {hash}"), "salt"),
            ("$6$c2FsdA==$aGFzaA==", "64 bytes"),
            (&format!("$6$c2FsdA==${hash}$"), "cut short"),
        ];
        for (text, expected) in cases {
            let wrong = Stored::parse(text).unwrap_err();
            assert!(wrong.text.contains(expected), "{text}: {wrong:?}");
            assert!(wrong.hint.contains("forebay passwd"), "{text}: {wrong:?}");
        }
    }
}
