//! Nodes by where they stand.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use scf_core::{Area, GeoPoint};

use super::names::NodeIx;

/// Edge of a cell in 10^-7 degrees: a tenth of a degree, 11 km northwards.
const CELL: i32 = 1_000_000;
/// Metres of a cell northwards.
const CELL_M: f64 = 11_119.5;
/// Columns of cells around the Earth.
const COLUMNS: i32 = 3600;

/// A cell: row from the south, column from the date line.
type Cell = (i32, i32);

/// Nodes in cells of a tenth of a degree, sorted so that only cells with nodes are visited.
#[derive(Debug, Default)]
pub(crate) struct Cells(RwLock<BTreeMap<Cell, Vec<NodeIx>>>);

impl Cells {
    pub(crate) const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// Moves a node from one place to another; either may be unknown.
    pub(crate) fn place(&self, node: NodeIx, from: Option<GeoPoint>, to: Option<GeoPoint>) {
        let (from, to) = (from.map(cell), to.map(cell));
        if from == to {
            return;
        }
        let mut cells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = from
            && let Some(nodes) = cells.get_mut(&from)
        {
            nodes.retain(|other| *other != node);
            if nodes.is_empty() {
                cells.remove(&from);
            }
        }
        if let Some(to) = to {
            cells.entry(to).or_default().push(node);
        }
    }

    /// Gives nodes of the cells that touch the area to `each`, from a place that `turn` decides, until it says to stop.
    pub(crate) fn around(&self, area: &Area, turn: usize, mut each: impl FnMut(NodeIx) -> bool) {
        let reach = (f64::from(area.metres) / CELL_M).ceil() as i32 + 1;
        let (row, column) = cell(area.centre);
        // A degree of longitude shrinks with the cosine of the latitude; near a pole an area goes all around.
        let widest = (f64::from((row.abs() + reach).min(900)) / 10.0).to_radians().cos().max(1e-3);
        let wide = ((f64::from(reach) / widest).ceil() as i32).min(COLUMNS / 2);
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for row in row - reach..=row + reach {
            for (first, last) in columns(column - wide, column + wide).into_iter().flatten() {
                for (_, nodes) in cells.range((row, first)..=(row, last)) {
                    let start = turn % nodes.len();
                    let (before, after) = nodes.split_at(start);
                    if !after.iter().chain(before).all(|node| each(*node)) {
                        return;
                    }
                }
            }
        }
    }
}

const fn cell(point: GeoPoint) -> Cell {
    let column = (point.longitude.div_euclid(CELL) + COLUMNS / 2).rem_euclid(COLUMNS);
    (point.latitude.div_euclid(CELL), column)
}

/// The columns from one to another, in two parts where they cross the date line.
fn columns(first: i32, last: i32) -> [Option<(i32, i32)>; 2] {
    if last - first >= COLUMNS - 1 {
        return [Some((0, COLUMNS - 1)), None];
    }
    let (first, last) = (first.rem_euclid(COLUMNS), last.rem_euclid(COLUMNS));
    if first <= last { [Some((first, last)), None] } else { [Some((first, COLUMNS - 1)), Some((0, last))] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_node_of_an_area_is_in_a_cell_that_is_visited() {
        let (cells, mut random) = (Cells::default(), Random::new(5));
        let mut point = |spread: f64| {
            let part = |random: &mut Random, degrees: f64| (random.below(2_000_001) as f64 / 1e6 - 1.0) * degrees;
            (part(&mut random, 90.0 * spread), part(&mut random, 180.0))
        };
        let points: Vec<_> = (0..3000).map(|_| point(1.0)).map(|(lat, lon)| GeoPoint::degrees(lat, lon)).collect();
        for (at, point) in points.iter().enumerate() {
            cells.place(NodeIx(at as u32), None, Some(*point));
        }
        for metres in [10_000, 400_000, 3_000_000] {
            for _ in 0..40 {
                let (lat, lon) = point(1.0);
                let area = Area { centre: GeoPoint::degrees(lat, lon), metres };
                let mut seen = vec![false; points.len()];
                cells.around(&area, 7, |node| {
                    seen[node.index()] = true;
                    true
                });
                for (at, point) in points.iter().enumerate() {
                    assert!(seen[at] || !area.contains(*point), "{point:?} is within {area:?}");
                }
            }
        }
    }

    #[test]
    fn a_node_that_moved_is_found_where_it_is() {
        let cells = Cells::default();
        let (here, there) = (GeoPoint::degrees(48.2, 16.4), GeoPoint::degrees(52.5, 13.4));
        cells.place(NodeIx(1), None, Some(here));
        cells.place(NodeIx(1), Some(here), Some(there));
        let mut found = Vec::new();
        for centre in [here, there] {
            cells.around(&Area { centre, metres: 1000 }, 0, |node| {
                found.push((centre, node));
                true
            });
        }
        assert_eq!(found, [(there, NodeIx(1))]);
    }
}
