//! The two schemas side by side: every subschema has a number, its text and its JSON pointer; references
//! inside a document are followed, others are left as what cannot be told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::compile;

/// Which of the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Whose documents are asked about.
    Writer,
    /// That has to accept them.
    Reader,
}

/// A subschema of either document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u32);

struct Entry<'a> {
    schema: &'a Value,
    origin: Origin,
    place: Place<'a>,
}

/// Where a subschema stands; pointers are written out when somebody wants to see one.
enum Place<'a> {
    Root,
    /// Where a reference led to.
    At(String),
    Child(Id, &'static str),
    Listed(Id, &'static str, usize),
    Named(Id, &'static str, &'a str),
}

struct Document<'a> {
    root: &'a Value,
    /// Draft 7 and before: what stands beside a `$ref` is ignored.
    refs_alone: bool,
}

/// Both documents.
pub(super) struct Documents<'a> {
    entries: Vec<Entry<'a>>,
    by_address: BTreeMap<(Origin, usize), Id>,
    writer: Document<'a>,
    reader: Document<'a>,
}

impl<'a> Document<'a> {
    fn new(root: &'a Value) -> Self {
        let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        Self { root, refs_alone: ["draft-04", "draft-06", "draft-07"].iter().any(|old| dialect.contains(old)) }
    }
}

impl<'a> Documents<'a> {
    pub(super) fn new(writer: &'a Value, reader: &'a Value) -> (Self, Id, Id) {
        let mut this = Self {
            entries: Vec::new(),
            by_address: BTreeMap::new(),
            writer: Document::new(writer),
            reader: Document::new(reader),
        };
        let writer = this.intern(writer, Origin::Writer, Place::Root);
        let reader = this.intern(reader, Origin::Reader, Place::Root);
        (this, writer, reader)
    }

    fn document(&self, origin: Origin) -> &Document<'a> {
        match origin {
            Origin::Writer => &self.writer,
            Origin::Reader => &self.reader,
        }
    }

    fn intern(&mut self, schema: &'a Value, origin: Origin, place: Place<'a>) -> Id {
        let address = (origin, std::ptr::from_ref(schema).addr());
        if let Some(known) = self.by_address.get(&address) {
            return *known;
        }
        let id = Id(u32::try_from(self.entries.len()).expect("a schema of 1 MiB has fewer parts"));
        self.entries.push(Entry { schema, origin, place });
        self.by_address.insert(address, id);
        id
    }

    fn entry(&self, id: Id) -> &Entry<'a> {
        &self.entries[id.0 as usize]
    }

    pub(super) fn schema(&self, id: Id) -> &'a Value {
        self.entry(id).schema
    }

    /// Returns the JSON pointer to a subschema.
    pub(super) fn pointer(&self, id: Id) -> String {
        match &self.entry(id).place {
            Place::Root => String::new(),
            Place::At(pointer) => pointer.clone(),
            Place::Child(parent, keyword) => format!("{}/{keyword}", self.pointer(*parent)),
            Place::Listed(parent, keyword, at) => format!("{}/{keyword}/{at}", self.pointer(*parent)),
            Place::Named(parent, keyword, name) => {
                format!("{}/{keyword}/{}", self.pointer(*parent), compile::escaped(name))
            }
        }
    }

    pub(super) fn origin(&self, id: Id) -> Origin {
        self.entry(id).origin
    }

    /// True where what stands beside a `$ref` is ignored.
    pub(super) fn refs_alone(&self, id: Id) -> bool {
        self.document(self.origin(id)).refs_alone
    }

    /// Returns a keyword's value. In draft 7 a `$ref` hides all others.
    pub(super) fn keyword(&self, id: Id, keyword: &str) -> Option<&'a Value> {
        let schema = self.schema(id);
        if keyword != "$ref" && self.refs_alone(id) && schema.get("$ref").is_some() {
            return None;
        }
        schema.get(keyword)
    }

    /// Returns the subschema that a keyword holds.
    pub(super) fn child(&mut self, id: Id, keyword: &'static str) -> Option<Id> {
        let schema = self.keyword(id, keyword).filter(|schema| schema.is_object() || schema.is_boolean())?;
        Some(self.intern(schema, self.origin(id), Place::Child(id, keyword)))
    }

    /// Returns the subschemas that a keyword holds in a list.
    pub(super) fn list(&mut self, id: Id, keyword: &'static str) -> Option<Vec<Id>> {
        let schemas = self.keyword(id, keyword)?.as_array()?;
        let origin = self.origin(id);
        let one = |(at, schema)| self.intern(schema, origin, Place::Listed(id, keyword, at));
        Some(schemas.iter().enumerate().map(one).collect())
    }

    /// Returns the subschemas that a keyword holds by name; members that are no schemas are left out.
    pub(super) fn map(&mut self, id: Id, keyword: &'static str) -> Vec<(&'a str, Id)> {
        let Some(members) = self.keyword(id, keyword).and_then(Value::as_object) else { return Vec::new() };
        let origin = self.origin(id);
        let schemas = members.iter().filter(|(_, schema)| schema.is_object() || schema.is_boolean());
        schemas
            .map(|(name, schema)| (name.as_str(), self.intern(schema, origin, Place::Named(id, keyword, name))))
            .collect()
    }

    /// Follows a reference inside the document.
    pub(super) fn resolve(&mut self, id: Id, reference: &str) -> Option<Id> {
        let origin = self.origin(id);
        let root = self.document(origin).root;
        let own = root.get("$id").or_else(|| root.get("id")).and_then(Value::as_str);
        let inside = match own.and_then(|own| reference.strip_prefix(own.trim_end_matches('#'))) {
            Some("") => "#",
            Some(fragment) if fragment.starts_with('#') => fragment,
            _ => reference,
        };
        let pointer = compile::target(root, inside)?;
        let schema = root.pointer(&pointer)?;
        Some(self.intern(schema, origin, Place::At(pointer)))
    }
}
