//! `policy.yaml` of an event type: which way its versions have to get along, and how strictly. Two keys, so
//! a line at a time; anything else is refused with its line.

use serde::Serialize;

use super::Finding;
use super::compat::Profile;

/// Which way a new version has to get along with old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// New consumers read old events.
    #[default]
    Backward,
    /// Old consumers read new events.
    Forward,
    Full,
    None,
}

/// What the versions of a type have promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Policy {
    pub compatibility: Compatibility,
    /// Holds against every earlier version, not only the one before.
    pub transitive: bool,
    pub profile: Profile,
}

const WORDS: &str = "backward, forward, full (each also with _transitive) and none";

impl Policy {
    /// Returns `backward_transitive` and the like.
    #[must_use]
    pub fn word(&self) -> String {
        let word = match self.compatibility {
            Compatibility::Backward => "backward",
            Compatibility::Forward => "forward",
            Compatibility::Full => "full",
            Compatibility::None => return "none".to_owned(),
        };
        if self.transitive { format!("{word}_transitive") } else { word.to_owned() }
    }

    /// Reads a compatibility's word.
    ///
    /// # Errors
    /// A message with the words that there are.
    pub fn parse_compatibility(text: &str) -> Result<(Compatibility, bool), String> {
        let (word, transitive) = match text.strip_suffix("_transitive") {
            Some(word) if word != "none" => (word, true),
            _ => (text, false),
        };
        let compatibility = match word {
            "backward" => Compatibility::Backward,
            "forward" => Compatibility::Forward,
            "full" => Compatibility::Full,
            "none" => Compatibility::None,
            _ => return Err(format!("compatibility is `{}`; the words are {WORDS}", super::violation::cut(text))),
        };
        Ok((compatibility, transitive))
    }

    /// Reads a profile's word.
    ///
    /// # Errors
    /// A message with the words that there are.
    pub fn parse_profile(text: &str) -> Result<Profile, String> {
        match text {
            "lenient" => Ok(Profile::Lenient),
            "strict" => Ok(Profile::Strict),
            _ => Err(format!("profile is `{}`; the words are lenient and strict", super::violation::cut(text))),
        }
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// Every mistake, each with its line.
    pub fn parse(path: &str, text: &str) -> Result<Self, Vec<Finding>> {
        let (mut policy, mut seen, mut findings) = (Self::default(), Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let mut refuse = |message: String| findings.push(Finding::of_line(path, at + 1, message));
            let line = line.split_once(" #").map_or(line, |(before, _)| before).trim_end();
            if line.is_empty() || line.starts_with('#') || line == "---" {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                refuse("write `key: word`; the keys are compatibility and profile".to_owned());
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            if seen.contains(&key) {
                refuse(format!("`{}` is there twice", super::violation::cut(key)));
            }
            seen.push(key);
            match key {
                "compatibility" => match Self::parse_compatibility(value) {
                    Ok((compatibility, transitive)) => {
                        (policy.compatibility, policy.transitive) = (compatibility, transitive);
                    }
                    Err(message) => refuse(message),
                },
                "profile" => match Self::parse_profile(value) {
                    Ok(profile) => policy.profile = profile,
                    Err(message) => refuse(message),
                },
                _ => refuse(format!(
                    "no key `{}`; the keys are compatibility and profile",
                    super::violation::cut(key.trim())
                )),
            }
        }
        if findings.is_empty() { Ok(policy) } else { Err(findings) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_mistakes() {
        let rows: &[(&str, &str, Result<&str, usize>)] = &[
            ("nothing said", "", Ok("backward Lenient")),
            (
                "both",
                "# why\ncompatibility: full_transitive # all of them\nprofile: \"strict\"\n",
                Ok("full_transitive Strict"),
            ),
            ("none", "compatibility: none", Ok("none Lenient")),
            ("an unknown word", "profile: strict\ncompatibility: sideways", Err(2)),
            ("none has no other", "compatibility: none_transitive", Err(1)),
            ("an unknown key", "compatability: full", Err(1)),
            ("a key twice", "profile: strict\nprofile: lenient", Err(2)),
            ("no mapping", "- full", Err(1)),
        ];
        for (why, text, expected) in rows {
            let found = Policy::parse("policy.yaml", text);
            match (found, expected) {
                (Ok(policy), Ok(words)) => {
                    assert_eq!(format!("{} {:?}", policy.word(), policy.profile), *words, "{why}");
                }
                (Err(findings), Err(line)) => {
                    assert!(findings[0].to_string().contains(&format!("line {line}")), "{why}: {}", findings[0]);
                }
                (found, _) => panic!("{why}: {found:?}"),
            }
        }
    }
}
