//! The fields that rules name, numbered: an event is gone through once, and whatever no rule names is not looked at.

use super::matcher::Fact;

/// Names of fields, by their length.
#[derive(Debug, Default)]
pub(super) struct Named {
    by_length: Vec<Vec<(String, usize)>>,
    count: usize,
}

impl Named {
    /// The number of a field; one that was not named yet gets the next.
    pub(super) fn number(&mut self, name: &str) -> usize {
        if self.by_length.len() <= name.len() {
            self.by_length.resize_with(name.len() + 1, Vec::new);
        }
        let same = &mut self.by_length[name.len()];
        if let Some((_, number)) = same.iter().find(|(field, _)| field == name) {
            return *number;
        }
        same.push((name.to_owned(), self.count));
        self.count += 1;
        self.count - 1
    }

    /// The values of the named fields, by number.
    pub(super) fn facts<'a>(&self, fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Option<Fact<'a>>> {
        let mut facts: Vec<Option<Fact<'a>>> = Vec::new();
        if self.count == 0 {
            return facts;
        }
        facts.resize_with(self.count, || None);
        for (key, value) in fields {
            let same = self.by_length.get(key.len()).map(Vec::as_slice).unwrap_or_default();
            if let Some((_, number)) = same.iter().find(|(name, _)| name == key) {
                facts[*number] = Some(Fact::new(value));
            }
        }
        facts
    }
}
