//! The names that may be meant by one that is not known.

/// Those of some names that a text may be meant to be, the most alike first.
pub(super) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // Longer texts are nobody's misspelling, and comparing them takes time.
    const LONGEST: usize = 64;
    let wanted: String = wanted.chars().take(LONGEST).collect();
    let wanted = wanted.to_lowercase();
    let farthest = 1 + wanted.chars().count() / 5;
    let is_part =
        |known: &str| wanted.len() > 2 && (known.contains(&wanted) || wanted.contains(known));
    let known = known
        .into_iter()
        .map(|name| (distance(&wanted, name), name));
    let is_near = |(distance, name): &(usize, &str)| *distance <= farthest || is_part(name);
    let mut near: Vec<_> = known.filter(is_near).collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().map(|(_, name)| name).collect()
}

/// How many characters have to be inserted, taken out or changed.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (r, cell) in right.chars().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(l != r);
            diagonal = *cell;
            before = changed.min(*cell + 1).min(before + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("a", "a", 0),
            ("durration", "duration", 1),
            ("statu", "status", 1),
            ("ab", "xyz", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn the_most_alike_come_first_whatever_their_case() {
        let levels = ["info", "warning", "error", "fatal"];
        for (wanted, expected) in [
            ("ERROR", &["error"][..]),
            ("eror", &["error"]),
            ("warn", &["warning"]),
            ("critical", &[]),
            ("", &[]),
        ] {
            assert_eq!(nearest(wanted, levels), expected, "{wanted}");
        }
        assert_eq!(
            nearest("status", ["statuss", "status"]),
            ["status", "statuss"]
        );
        assert!(nearest(&"q".repeat(1 << 20), levels).is_empty());
    }
}
