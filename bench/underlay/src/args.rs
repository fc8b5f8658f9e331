//! `--name value` arguments: each is taken once, and what is left over is a mistake.

use std::collections::BTreeMap;
use std::str::FromStr;

pub struct Args(BTreeMap<String, String>);

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or(format!("expected --name value, found {word:?}"))?;
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            if args.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self(args))
    }

    pub fn or<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.0.remove(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("--{name}: {text:?} is not understood")),
        }
    }

    pub fn required<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        let text = self.0.remove(name).ok_or(format!("--{name} is missing"))?;
        text.parse()
            .map_err(|_| format!("--{name}: {text:?} is not understood"))
    }

    pub fn finish(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("--{name} means nothing here")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(text: &str) -> Result<Args, String> {
        Args::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn mistakes_are_told() {
        assert!(args("size").is_err());
        assert!(args("--size").is_err());
        assert!(args("--size 1 --size 2").is_err());
        assert!(args("--size x").unwrap().or("size", 1_usize).is_err());
        assert!(args("").unwrap().required::<usize>("size").is_err());
        assert!(args("--sise 5").unwrap().finish().is_err());
        let mut good = args("--size 88").unwrap();
        assert_eq!(good.or("size", 1_usize), Ok(88));
        assert_eq!(good.or("window", 7_u64), Ok(7));
        assert_eq!(good.finish(), Ok(()));
    }
}
