//! Walks over JSON text without reading it into anything. The text is well formed; where it is not, the
//! walk ends.

/// Iterates over an array's elements as text.
pub(super) struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    pub(super) fn new(array: &'a str) -> Self {
        Self { text: array, at: 1 }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        self.at = skip_space(bytes, self.at);
        if bytes.get(self.at) == Some(&b',') {
            self.at = skip_space(bytes, self.at + 1);
        }
        let start = self.at;
        let end = skip_value(bytes, start)?;
        self.at = end;
        self.text.get(start..end)
    }
}

/// Iterates over an object's members: the key with its quotes, and the value, as text.
pub(super) struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    pub(super) fn new(object: &'a str) -> Self {
        Self { text: object, at: 1 }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let bytes = self.text.as_bytes();
        self.at = skip_space(bytes, self.at);
        if bytes.get(self.at) == Some(&b',') {
            self.at = skip_space(bytes, self.at + 1);
        }
        let start = self.at;
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let end = skip_string(bytes, start)?;
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value = skip_space(bytes, colon + 1);
        self.at = skip_value(bytes, value)?;
        Some((self.text.get(start..end)?, self.text.get(value..self.at)?))
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Returns the end of the string that starts at `at` with its quote.
fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the end of the value that starts at `at`; `None` where none does.
fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at + 1, 1_u32);
            while depth > 0 {
                match bytes.get(at)? {
                    b'"' => {
                        at = skip_string(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
            }
            Some(at)
        }
        b']' | b'}' | b',' | b':' => None,
        _ => {
            let mut end = at;
            while !matches!(bytes.get(end), None | Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t')) {
                end += 1;
            }
            Some(end)
        }
    }
}
