//! Medians and percentiles: what a figure is made of, once the rounds are over.

/// The middle of `values`, between the two middle ones where their number is even. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The least value that at least `share` (0 to 1) of `values` do not exceed. `None` of nothing.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The median of what one series is to the other, round by round: rounds differ more than subjects do.
pub(crate) fn median_ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> =
        ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_tail() {
        for (values, middle, p99) in [
            (vec![], None, None),
            (vec![3.0], Some(3.0), Some(3.0)),
            (vec![4.0, 1.0], Some(2.5), Some(4.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0), Some(9.0)),
        ] {
            assert_eq!(median(&values), middle, "{values:?}");
            assert_eq!(percentile(&values, 0.99), p99, "{values:?}");
        }
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was three times slower in the second round: for both.
        assert_eq!(median_ratio(&[300.0, 100.0], &[150.0, 50.0]), Some(2.0));
        assert_eq!(median_ratio(&[300.0], &[]), None);
    }
}
