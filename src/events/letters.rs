//! Dead letters: list, show, give again, drop. Each command is noted in the audit before it is done. Where a
//! consumer's later events wait for a key, one letter of the key is given at a time, in the order in which
//! the events were published.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::filter::LetterFilter;
use super::view::{Done, Left, LetterPage, LetterView};
use super::{Error, Events};
use crate::bus::archive::Stream;
use crate::bus::dead_letter::{self, Letter};
use crate::bus::{RawMessage, wire};
use crate::coordinator::{LaterEvents, Refusal, WAITS};
use crate::envelope::Event;
use crate::payload::Payload;

/// Letters read at a time: at most 256 of 1 MiB.
const PAGE_LEN: usize = 256;
/// Letters on one page of a list when the caller does not say, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1_000;
/// Letters that one command by filter takes: at some milliseconds each it answers within a minute.
const AT_ONCE_MAX: usize = 1_000;
/// The consumer of events that runs emitted and that could not be published: there is nobody to give them
/// to but everybody.
const OUTBOX: &str = "outbox";

/// Between two tries while NATS is away.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// A letter that is on its way into DEAD_LETTERS takes milliseconds.
const ON_ITS_WAY_PAUSE: Duration = Duration::from_millis(10);

/// What the consumers' names of outbox tables begin with.
const OUTBOX_TABLE: &str = "outbox-";

/// Who gives a command; nobody checks it.
pub type By<'a> = Option<&'a str>;

impl Events {
    /// Lists letters, oldest first.
    ///
    /// # Errors
    /// [`Error::Bad`] for a filter that makes no sense, [`Error::Unavailable`].
    pub async fn letters(
        &self,
        filter: LetterFilter,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<LetterPage, Error> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Error::Bad(format!("limit: {limit} is not between 1 and {LIMIT_MAX}")));
        }
        let from = match cursor {
            None => None,
            Some(text) => {
                Some(text.parse::<u64>().map_err(|_| Error::Bad("cursor: it is not one of ours".to_owned()))?)
            }
        };
        let (letters, next) = self.fitting(filter, from, limit).await?;
        let letters = letters.iter().map(LetterView::of).collect();
        Ok(LetterPage { letters, cursor: next.map(|next| next.to_string()) })
    }

    /// Returns letters that fit, and where to go on if there may be more.
    async fn fitting(
        &self,
        filter: LetterFilter,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Letter>, Option<u64>), Error> {
        let (mut found, mut next) = (Vec::new(), None);
        self.each(filter, from, |letter| {
            let behind = letter.sequence + 1;
            found.push(letter);
            if found.len() < limit {
                return ControlFlow::Continue(());
            }
            next = Some(behind);
            ControlFlow::Break(())
        })
        .await?;
        Ok((found, next))
    }

    /// Looks at every letter that fits, in order, until told to stop; one page of them is in memory.
    async fn each(
        &self,
        filter: LetterFilter,
        from: Option<u64>,
        mut look: impl FnMut(Letter) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let chosen = filter.chosen(self.0.clock.now())?;
        let mut from = match (from, chosen.since()) {
            (Some(from), _) => from,
            (None, Some(since)) => self.0.archive.at(Stream::DeadLetters, since).await?,
            (None, None) => 1,
        };
        loop {
            let page = self.0.archive.read(Stream::DeadLetters, from, chosen.subjects(), PAGE_LEN).await?;
            if page.messages.is_empty() {
                return Ok(());
            }
            for stored in &page.messages {
                let letter = dead_letter::decode(stored);
                if chosen.fits(&letter) && look(letter).is_break() {
                    return Ok(());
                }
            }
            from = page.next;
        }
    }

    /// Returns a letter with its original message.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn letter(&self, sequence: u64) -> Result<LetterView, Error> {
        self.find(sequence).await.map(|letter| LetterView::whole(&letter))
    }

    async fn find(&self, sequence: u64) -> Result<Letter, Error> {
        let subjects = vec![format!("{}.>", wire::DEAD_LETTERS)];
        let page = self.0.archive.read(Stream::DeadLetters, sequence, subjects, 1).await?;
        let found = page.messages.first().filter(|stored| stored.sequence == sequence).map(dead_letter::decode);
        found.ok_or_else(|| {
            Error::NotFound(format!("no dead letter {sequence}: it was redriven, dropped or has expired, or never was"))
        })
    }

    /// Gives a letter to its consumer again, with other data if that is given; it is no dead letter then.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the letter must wait for another, or cannot be read; [`Error::Invalid`] for
    /// data that breaks the schema; [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn redrive(&self, sequence: u64, data: Option<Payload>, by: By<'_>) -> Result<(), Error> {
        let _alone = self.0.operating.lock().await;
        let letter = self.find(sequence).await?;
        self.check_turn(&letter).await?;
        self.give(&letter, data, "redrive", by).await
    }

    /// Gives every letter that fits again, oldest first, at most 1,000 of them.
    ///
    /// # Errors
    /// [`Error::Bad`] for a filter that makes no sense, [`Error::Unavailable`].
    pub async fn redrive_all(&self, filter: LetterFilter, by: By<'_>) -> Result<Done, Error> {
        let _alone = self.0.operating.lock().await;
        let (letters, next) = self.fitting(filter, None, AT_ONCE_MAX).await?;
        let mut done = Done { more: next.is_some(), ..Done::default() };
        for letter in letters {
            let given = match self.check_turn(&letter).await {
                Ok(()) => self.give(&letter, None, "redrive", by).await,
                Err(why) => Err(why),
            };
            note(&mut done, letter.sequence, given)?;
        }
        Ok(done)
    }

    /// Removes a letter for good.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn drop_letter(&self, sequence: u64, by: By<'_>) -> Result<(), Error> {
        let _alone = self.0.operating.lock().await;
        let letter = self.find(sequence).await?;
        self.discard(&letter, by).await
    }

    /// Removes every letter that fits, oldest first, at most 1,000 of them.
    ///
    /// # Errors
    /// [`Error::Bad`] for a filter that makes no sense or asks for everything, [`Error::Unavailable`].
    pub async fn drop_all(&self, filter: LetterFilter, by: By<'_>) -> Result<Done, Error> {
        if filter.is_empty() {
            return Err(Error::Bad("say which: consumer, reason, type, key, since or until".to_owned()));
        }
        let _alone = self.0.operating.lock().await;
        let (letters, next) = self.fitting(filter, None, AT_ONCE_MAX).await?;
        let mut done = Done { more: next.is_some(), ..Done::default() };
        for letter in letters {
            note(&mut done, letter.sequence, self.discard(&letter, by).await)?;
        }
        Ok(done)
    }

    async fn discard(&self, letter: &Letter, by: By<'_>) -> Result<(), Error> {
        self.note("drop", by, Some(letter.sequence), about(letter)).await?;
        self.0.archive.remove(Stream::DeadLetters, letter.sequence).await?;
        if let Some(key) = &letter.key {
            self.next_of_key(&letter.consumer, key).await?;
        }
        Ok(())
    }

    async fn give(&self, letter: &Letter, data: Option<Payload>, action: &str, by: By<'_>) -> Result<(), Error> {
        let corrected = data.is_some();
        let message = self.message(letter, data)?;
        let mut about = about(letter);
        about["corrected"] = corrected.into();
        self.note(action, by, Some(letter.sequence), about).await?;
        // Published first: a crash in between publishes it once more with the same id, and loses nothing.
        self.0.archive.put(message).await?;
        self.0.archive.remove(Stream::DeadLetters, letter.sequence).await?;
        Ok(())
    }

    /// Makes the message that gives a letter again.
    fn message(&self, letter: &Letter, data: Option<Payload>) -> Result<RawMessage, Error> {
        if !letter.readable || !letter.raw.subject.starts_with("events.") {
            return Err(Error::Conflict(format!(
                "dead letter {}: its headers cannot be read, so it cannot be given again; publish the event anew \
                 with its data, then drop the letter",
                letter.sequence
            )));
        }
        let Some(data) = data else { return Ok(self.addressed(letter, letter.again(None))) };
        let whole = wire::decode(&letter.raw).map(|event| Event { data: data.clone(), ..event });
        let event = match whole {
            Ok(event) => event,
            // The data itself may be what could not be read.
            Err(_) => wire::decode(&letter.again(Some(Bytes::from(data.text().to_owned())))).map_err(|why| {
                Error::Conflict(format!(
                    "dead letter {}: other data does not make it an event: {why}; publish the event anew, then drop \
                     the letter",
                    letter.sequence
                ))
            })?,
        };
        let event_type = &event.event_type;
        self.0.schemas.check(event_type, &event.data).map_err(|refusal| match refusal {
            Refusal::UnknownType { .. } => Error::Conflict(refusal.line(event_type)),
            Refusal::Invalid(violations) | Refusal::NoWay { violations, .. } => {
                Error::Invalid { title: format!("the data does not fit {event_type}"), violations }
            }
        })?;
        let rewritten = Letter { raw: wire::encode(&event), ..letter.clone() };
        Ok(self.addressed(letter, rewritten.again(None)))
    }

    /// An emitted event that was never published is published for everybody.
    fn addressed(&self, letter: &Letter, message: RawMessage) -> RawMessage {
        if letter.consumer != OUTBOX && !letter.consumer.starts_with(OUTBOX_TABLE) {
            return message;
        }
        let headers = message.headers.into_iter().filter(|(name, _)| !name.starts_with("Backstitch-")).collect();
        RawMessage { headers, ..message }
    }

    /// Lets the letters of a consumer come that only wait, one after the other. First learns which keys wait:
    /// the consumer takes no event before.
    pub(super) async fn follow(&self, consumer: &str, mut freed: mpsc::UnboundedReceiver<String>) {
        let Some(held) = self.held(consumer).filter(|held| held.later() == LaterEvents::Wait) else { return };
        let keys = loop {
            match self.waiting_keys(consumer).await {
                Ok(keys) => break keys,
                Err(_) => tokio::time::sleep(AGAIN_PAUSE).await, // NATS is away, and says so elsewhere
            }
        };
        held.load(keys.iter().cloned());
        // What a letter waited for may have gone while nobody followed.
        let mut open: VecDeque<String> = keys.into_iter().collect();
        loop {
            let key = match open.pop_front() {
                Some(key) => key,
                None => match freed.recv().await {
                    Some(key) => key,
                    None => return,
                },
            };
            let _alone = self.0.operating.lock().await;
            if self.next_of_key(consumer, &key).await.is_err() {
                open.push_back(key);
                tokio::time::sleep(AGAIN_PAUSE).await;
            }
        }
    }

    async fn waiting_keys(&self, consumer: &str) -> Result<BTreeSet<String>, Error> {
        let filter = LetterFilter { consumer: Some(consumer.to_owned()), ..LetterFilter::default() };
        let mut keys = BTreeSet::new();
        self.each(filter, None, |letter| {
            keys.extend(letter.key);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(keys)
    }

    /// Refuses a letter that another one of its key is before.
    async fn check_turn(&self, letter: &Letter) -> Result<(), Error> {
        let Some(key) = &letter.key else { return Ok(()) };
        if self.held(&letter.consumer).is_none_or(|held| held.later() == LaterEvents::Pass) {
            return Ok(());
        }
        match self.first_of_key(&letter.consumer, key).await? {
            Some(first) if first.sequence != letter.sequence => Err(Error::Conflict(format!(
                "dead letter {} waits for {} with the same partition key: redrive or drop that one first",
                letter.sequence, first.sequence
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the letter whose event was published first of a key's.
    async fn first_of_key(&self, consumer: &str, key: &str) -> Result<Option<Letter>, Error> {
        let filter =
            LetterFilter { consumer: Some(consumer.to_owned()), key: Some(key.to_owned()), ..LetterFilter::default() };
        let mut first: Option<Letter> = None;
        self.each(filter, None, |letter| {
            if first.as_ref().is_none_or(|first| letter.position < first.position) {
                first = Some(letter);
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(first)
    }

    /// Lets the next letter of a key come that only waits; lets the key go when there is none.
    pub(super) async fn next_of_key(&self, consumer: &str, key: &str) -> Result<(), Error> {
        let Some(held) = self.held(consumer).filter(|held| held.later() == LaterEvents::Wait) else { return Ok(()) };
        loop {
            let mark = held.mark(key);
            match self.first_of_key(consumer, key).await? {
                Some(next) if next.reason == WAITS => return self.give(&next, None, "follow", None).await,
                Some(_) => return Ok(()),
                None if held.release(key, mark) => return Ok(()),
                None => tokio::time::sleep(ON_ITS_WAY_PAUSE).await,
            }
        }
    }
}

fn note(done: &mut Done, sequence: u64, result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Ok(()) => done.done.push(sequence),
        Err(Error::Unavailable(why)) => return Err(Error::Unavailable(why)),
        Err(error) => done.left.push(Left { sequence, reason: error.to_string() }),
    }
    Ok(())
}

fn about(letter: &Letter) -> serde_json::Value {
    json!({
        "subject": letter.raw.subject,
        "consumer": letter.consumer,
        "reason": letter.reason,
        "stream_sequence": letter.stream_sequence,
        "key": letter.key,
    })
}
