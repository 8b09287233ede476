//! Clones, conversions, comparisons and arithmetic, each paid for.

use super::*;

impl Clone for Counted {
    fn clone(&self) -> Self {
        charge(1);
        Self { val: self.val.clone(), weight: self.weight.clone() }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // jaq shows values in its messages; large ones are named by their kind.
        match &self.val {
            Val::Arr(_) | Val::Obj(_) => f.write_str(kind(&self.val)),
            val => {
                let text = val.to_string();
                if text.len() > 200 { f.write_str(kind(val)) } else { f.write_str(&text) }
            }
        }
    }
}

impl From<bool> for Counted {
    fn from(bool: bool) -> Self {
        Self::new(Val::from(bool))
    }
}
impl From<isize> for Counted {
    fn from(number: isize) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<usize> for Counted {
    fn from(number: usize) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<f64> for Counted {
    fn from(number: f64) -> Self {
        Self::new(Val::from(number))
    }
}
impl From<String> for Counted {
    fn from(text: String) -> Self {
        charge(text.len() as u64 / 64);
        Self::new(Val::from(text))
    }
}
impl From<Range<Counted>> for Counted {
    fn from(range: Range<Counted>) -> Self {
        Self::new(Val::from(range.start.map(Counted::into_val)..range.end.map(Counted::into_val)))
    }
}

impl FromIterator<Counted> for Counted {
    fn from_iter<I: IntoIterator<Item = Counted>>(iter: I) -> Self {
        let (mut nodes, mut depth) = (1_u32, 1_u16);
        let mut items = Vec::new();
        for item in iter {
            charge(1);
            let weight = item.weight();
            nodes = nodes.saturating_add(weight.nodes);
            depth = depth.max(weight.depth.saturating_add(1));
            if nodes > NODES_MAX {
                exhausted("the expression builds too large a value");
            }
            items.push(item.val);
        }
        Self::built(Val::Arr(Rc::new(items)), Weight { nodes, depth })
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        charge_comparison(self, other);
        self.val == other.val
    }
}
impl Eq for Counted {}
impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        charge_comparison(self, other);
        self.val.cmp(&other.val)
    }
}

fn charge_comparison(left: &Counted, right: &Counted) {
    charge(1 + u64::from(left.weight().nodes.min(right.weight().nodes)) / 4);
}

impl std::ops::Add for Counted {
    type Output = ValR<Self>;
    fn add(self, other: Self) -> ValR<Self> {
        if let (Val::Num(_), Val::Num(_)) = (&self.val, &other.val) {
            charge(1);
            return (self.val + other.val).map(Self::number).map_err(error);
        }
        let (left, right) = (self.weight(), other.weight());
        // Where jaq has to copy a shared left side, that costs its length.
        let copied = match &self.val {
            Val::Arr(items) => items.len() / 4,
            Val::Obj(members) => members.len(),
            Val::BStr(text) | Val::TStr(text) => text.len() / 1024,
            Val::Null | Val::Bool(_) | Val::Num(_) => 0,
        };
        charge(1 + copied as u64 + u64::from(right.nodes) / 4);
        (self.val + other.val).map(|val| Self::within_parts(val, left, right)).map_err(error)
    }
}

impl std::ops::Sub for Counted {
    type Output = ValR<Self>;
    fn sub(self, other: Self) -> ValR<Self> {
        if let (Val::Arr(_), Val::Arr(_)) = (&self.val, &other.val) {
            let (left, right) = (self.weight(), other.weight());
            // Each element is looked up in a sorted set: some twenty comparisons.
            charge(1 + 4 * (u64::from(left.nodes) + u64::from(right.nodes)));
            return (self.val - other.val).map(|val| Self::within_parts(val, left, right)).map_err(error);
        }
        charge(1);
        (self.val - other.val).map(Self::number).map_err(error)
    }
}

impl std::ops::Mul for Counted {
    type Output = ValR<Self>;
    fn mul(self, other: Self) -> ValR<Self> {
        charge(1);
        match (&self.val, &other.val) {
            (Val::BStr(text) | Val::TStr(text), Val::Num(times))
            | (Val::Num(times), Val::BStr(text) | Val::TStr(text)) => {
                let times = times.as_isize().map_or(usize::MAX, |times| usize::try_from(times).unwrap_or(0));
                let bytes = text.len().saturating_mul(times);
                if bytes / 64 > NODES_MAX as usize {
                    exhausted("the expression builds too large a value");
                }
                charge(bytes as u64 / 64);
                wrap(self.val * other.val)
            }
            (Val::Obj(_), Val::Obj(_)) => {
                let (left, right) = (self.weight(), other.weight());
                charge(u64::from(left.nodes) + u64::from(right.nodes));
                (self.val * other.val).map(|val| Self::within_parts(val, left, right)).map_err(error)
            }
            _ => (self.val * other.val).map(Self::number).map_err(error),
        }
    }
}

impl std::ops::Div for Counted {
    type Output = ValR<Self>;
    fn div(self, other: Self) -> ValR<Self> {
        charge(1);
        if let (Val::TStr(text), Val::TStr(_)) = (&self.val, &other.val) {
            // At most one piece per byte.
            charge(text.len() as u64);
        }
        wrap(self.val / other.val)
    }
}

impl std::ops::Rem for Counted {
    type Output = ValR<Self>;
    fn rem(self, other: Self) -> ValR<Self> {
        charge(1);
        wrap(self.val % other.val)
    }
}

impl std::ops::Neg for Counted {
    type Output = ValR<Self>;
    fn neg(self) -> ValR<Self> {
        charge(1);
        wrap(-self.val)
    }
}
