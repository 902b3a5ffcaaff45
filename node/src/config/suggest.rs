//! "Did you mean": for keys, variables, task names and verbs.

/// The candidate that `typed` was most likely meant to be; `None` when nothing is near enough.
///
/// Near enough is an edit distance of a third of the typed length (at least one), a swap of neighbours counting as one
/// edit. Case is ignored. Of equally near candidates the first wins.
pub fn closest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let allowed = (typed.chars().count() / 3).clamp(1, 5);
    candidates
        .into_iter()
        .map(|candidate| (distance(&typed, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
/// Texts beyond [`LENGTH_MAX`] characters are compared by their beginning, so that hostile input costs no more than honest.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(LENGTH_MAX).collect();
    let b: Vec<char> = b.chars().take(LENGTH_MAX).collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

const LENGTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["broker.url", "results.url", "log.level", "drain.timeout"];
        for (typed, meant) in [
            ("broker.ulr", Some("broker.url")),
            ("Broker.url", Some("broker.url")),
            ("result.url", Some("results.url")),
            ("drain.timout", Some("drain.timeout")),
            ("log.lvl", Some("log.level")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn long_input_is_bounded() {
        assert_eq!(closest(&"x".repeat(1 << 20), ["y"]), None);
    }
}
