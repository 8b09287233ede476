//! What jaq asks of a value: children, paths, updates.

use super::*;

/// Takes an array's or object's contents, copying where they are shared; the copy is paid for.
fn taken<T: Clone>(shared: Rc<T>, len: usize) -> T {
    charge(1 + len as u64 / 4);
    Rc::try_unwrap(shared).unwrap_or_else(|shared| (*shared).clone())
}

impl ValT for Counted {
    fn from_num(text: &str) -> ValR<Self> {
        wrap(Val::from_num(text))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(iter: I) -> ValR<Self> {
        let (mut nodes, mut depth) = (1_u32, 1_u16);
        let mut members = Map::default();
        for (key, value) in iter {
            charge(1);
            for weight in [key.weight(), value.weight()] {
                nodes = nodes.saturating_add(weight.nodes);
                depth = depth.max(weight.depth.saturating_add(1));
            }
            members.insert(key.val, value.val);
        }
        Ok(Self::built(Val::obj(members), Weight { nodes, depth }))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        let pair = |(key, value): (Val, Val)| {
            charge(1);
            Ok((Counted::new(key), Counted::new(value)))
        };
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                let items = taken(items, len).into_iter().enumerate();
                Box::new(items.map(move |(at, item)| pair((Val::from(at), item))))
            }
            Val::Obj(members) => {
                let len = members.len();
                Box::new(taken(members, len).into_iter().map(pair))
            }
            val => box_once(Err(type_error(&val, "an array or object"))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        let item = |val| {
            charge(1);
            Ok(Counted::new(val))
        };
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                Box::new(taken(items, len).into_iter().map(item))
            }
            Val::Obj(members) => {
                let len = members.len();
                Box::new(taken(members, len).into_iter().map(move |(_, val)| item(val)))
            }
            val => box_once(Err(type_error(&val, "an array or object"))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        charge(1);
        match (&self.val, &index.val) {
            (Val::Arr(items), Val::Arr(_)) => charge(items.len() as u64 + u64::from(index.weight().nodes)),
            (Val::Obj(_), key @ (Val::Arr(_) | Val::Obj(_))) => charge(u64::from(weigh(key).nodes)),
            _ => {}
        }
        self.val.index(&index.val).map(Counted::new).map_err(error)
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        let size = match &self.val {
            Val::Arr(items) => items.len() / 4,
            Val::BStr(text) | Val::TStr(text) => text.len() / 64,
            Val::Null | Val::Bool(_) | Val::Num(_) | Val::Obj(_) => 0,
        };
        charge(1 + size as u64);
        wrap(self.val.range(range.start.map(|from| &from.val)..range.end.map(|to| &to.val)))
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                let mut out = Vec::new();
                for item in taken(items, len) {
                    charge(1);
                    for result in f(Counted::new(item)) {
                        out.push(result?);
                    }
                }
                Ok(out.into_iter().collect())
            }
            Val::Obj(members) => {
                let len = members.len();
                let mut out = Vec::new();
                for (key, value) in taken(members, len) {
                    charge(1);
                    if let Some(result) = f(Counted::new(value)).next() {
                        out.push((Counted::new(key), result?));
                    }
                }
                Ok(Self::from_map(out)?)
            }
            _ => opt.fail(self, |value| Exn::from(type_error(&value.val, "an array or object"))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let whole = self.weight();
        let deeper = |part: Option<&Counted>| {
            let part = part.map_or(Weight { nodes: 0, depth: 0 }, Counted::weight);
            Weight { nodes: part.nodes, depth: part.depth.saturating_add(1) }
        };
        match (self.val, &index.val) {
            (Val::Obj(members), key) => {
                let len = members.len();
                let mut members = taken(members, len);
                let old = members.get(key).cloned().unwrap_or_default();
                let new = f(Counted::new(old)).next().transpose()?;
                let part = deeper(new.as_ref());
                match new {
                    Some(new) => drop(members.insert(key.clone(), new.val)),
                    None => drop(members.swap_remove(key)),
                }
                Ok(Self::within_parts(Val::obj(members), whole, part))
            }
            (Val::Arr(items), Val::Num(number)) => {
                let len = items.len();
                let at = number
                    .as_isize()
                    .and_then(|at| if at < 0 { len.checked_sub(at.unsigned_abs()) } else { usize::try_from(at).ok() });
                let Some(at) = at.filter(|at| *at < len) else {
                    let array = Counted::new(Val::Arr(items));
                    return opt.fail(array, |_| Exn::from(Error::str(format_args!("index {number} out of bounds"))));
                };
                let mut items = taken(items, len);
                let new = f(Counted::new(std::mem::take(&mut items[at]))).next().transpose()?;
                let part = deeper(new.as_ref());
                match new {
                    Some(new) => items[at] = new.val,
                    None => drop(items.remove(at)),
                }
                Ok(Self::within_parts(Val::Arr(Rc::new(items)), whole, part))
            }
            (val, _) => opt.fail(Counted::new(val), |value| Exn::from(type_error(&value.val, "an array or object"))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let Val::Arr(items) = &self.val else {
            return opt.fail(self, |value| Exn::from(type_error(&value.val, "an array")));
        };
        let bound = |bound: Option<&Self>, otherwise: usize| match bound.map(|bound| &bound.val) {
            None | Some(Val::Null) => Some(otherwise),
            Some(Val::Num(number)) => number.as_isize().map(|at| match usize::try_from(at) {
                Ok(at) => at.min(items.len()),
                Err(_) => items.len().saturating_sub(at.unsigned_abs()),
            }),
            Some(_) => None,
        };
        let (Some(from), Some(to)) = (bound(range.start, 0), bound(range.end, items.len())) else {
            return opt.fail(self, |_| Exn::from(Error::str("a slice needs whole numbers")));
        };
        charge(1 + items.len() as u64);
        let to = to.max(from);
        let slice = Counted::new(Val::Arr(Rc::new(items[from..to].to_vec())));
        let whole = self.weight();
        let new = f(slice).next().transpose()?;
        let part = new.as_ref().map_or(Weight { nodes: 0, depth: 0 }, Counted::weight);
        let new = match new.map(Counted::into_val) {
            None => Vec::new(),
            Some(Val::Arr(new)) => new.to_vec(),
            Some(other) => return Err(Exn::from(type_error(&other, "an array"))),
        };
        let items: Vec<Val> = items[..from].iter().chain(&new).chain(&items[to..]).cloned().collect();
        Ok(Self::within_parts(Val::Arr(Rc::new(items)), whole, part))
    }

    fn as_bool(&self) -> bool {
        self.val.as_bool()
    }

    fn into_string(self) -> Self {
        charge(u64::from(self.weight().nodes));
        Self::new(self.val.into_string())
    }
}

impl jaq_std::ValT for Counted {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self.val {
            Val::Arr(items) => {
                let len = items.len();
                // What follows is a sort or the like.
                charge(8 * len as u64);
                Ok(taken(items, len).into_iter().map(Counted::new).collect())
            }
            val => Err(Counted::new(val)),
        }
    }

    fn is_int(&self) -> bool {
        jaq_std::ValT::is_int(&self.val)
    }

    fn as_isize(&self) -> Option<isize> {
        self.val.as_isize()
    }

    fn as_f64(&self) -> Option<f64> {
        // jaq parses a decimal's text with `unwrap`; ours always parses, it came from a JSON number.
        self.val.as_f64()
    }

    fn is_utf8_str(&self) -> bool {
        self.val.is_utf8_str()
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        let bytes = self.val.as_bytes();
        charge(1 + bytes.map_or(0, <[u8]>::len) as u64 / 64);
        bytes
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Self::new(self.val.as_sub_str(sub))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        charge(1 + bytes.as_ref().len() as u64 / 64);
        Self::new(Val::from_utf8_bytes(bytes))
    }
}
