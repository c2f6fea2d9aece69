//! Four-letter words: which there are, and who answers them. The texts are ZooKeeper's to the byte, since scripts read them.

pub(crate) mod conf;
pub(crate) mod metrics;
mod stats;
mod watches;

use std::time::Instant;

use crate::node::core::Shared;
use crate::node::halt::Halted;

/// Makes [`Word`] and its names from one list.
macro_rules! words {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// A four-letter word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Word { $($variant),+ }

        impl Word {
            /// The word that a connection's first four bytes are, if they are one.
            pub(crate) fn parse(bytes: &[u8; 4]) -> Option<Self> {
                match std::str::from_utf8(bytes) {
                    $(Ok($name) => Some(Self::$variant),)+
                    _ => None,
                }
            }

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

words! {
    Ruok "ruok", Isro "isro", Srvr "srvr", Stat "stat", Cons "cons", Crst "crst", Srst "srst", Conf "conf", Envi "envi",
    Dirs "dirs", Dump "dump", Wchs "wchs", Wchc "wchc", Wchp "wchp", Gtmk "gtmk", Stmk "stmk", Hash "hash", Mntr "mntr",
}

impl Word {
    /// Whether eight more bytes belong to it.
    pub(crate) fn has_argument(self) -> bool {
        self == Self::Stmk
    }
}

/// The version whose behaviour this server has; scripts take it apart.
const VERSION: &str = concat!(
    "3.9.3-zk-server-lite-",
    env!("CARGO_PKG_VERSION"),
    ", built on 2024-10-17 23:21 UTC"
);

/// The whole answer to a word. The connection ends with it.
pub(crate) fn answer(shared: &Shared, word: Word, argument: Option<i64>) -> Result<String, Halted> {
    if !shared.config.four_letter_words.allows(word.name()) {
        return Ok(format!(
            "{} is not executed because it is not in the whitelist.\n",
            word.name()
        ));
    }
    let begun = Instant::now();
    let text = match word {
        Word::Ruok => "imok".to_owned(),
        Word::Isro => "rw".to_owned(),
        Word::Srvr => stats::srvr(shared)?,
        Word::Stat => stats::stat(shared)?,
        Word::Cons => stats::cons(shared)?,
        Word::Crst => {
            shared.core()?.engine.reset_connections();
            "Connection stats reset.\n".to_owned()
        }
        Word::Srst => {
            shared.core()?.engine.reset_counters();
            "Server stats reset.\n".to_owned()
        }
        Word::Conf => conf::conf(shared),
        Word::Envi => conf::envi(),
        Word::Dirs => conf::dirs(&shared.config),
        Word::Dump => watches::dump(shared)?,
        Word::Wchs => watches::wchs(shared)?,
        Word::Wchc => watches::wchc(shared)?,
        Word::Wchp => watches::wchp(shared)?,
        Word::Gtmk => shared.metrics.trace_mask().to_string(),
        Word::Stmk => {
            let mask = argument.unwrap_or_default();
            shared.metrics.set_trace_mask(mask);
            mask.to_string()
        }
        Word::Hash => stats::hash(shared)?,
        Word::Mntr => metrics::mntr(shared)?,
    };
    tracing::debug!(
        word = word.name(),
        took_us = begun.elapsed().as_micros() as u64,
        "answered a four-letter word"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_exact() {
        assert_eq!(Word::parse(b"ruok"), Some(Word::Ruok));
        assert_eq!(Word::parse(b"RUOK"), None);
        assert_eq!(Word::parse(&[0, 0, 0, 45]), None);
        assert_eq!(Word::parse(b"mntr").map(Word::name), Some("mntr"));
    }
}
