//! Which of the waiting requests begins next: so many at a time, and nobody's in everybody's way.

use std::collections::{HashMap, HashSet, VecDeque};

/// How a request shares the server with others. The default is quick work that depends on no other request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Requests of the same order begin as they came, each when the one before it has ended.
    pub order: Option<String>,
    /// Does not wait for others of its order: what interrupts them. Those that come after it wait for it.
    pub urgent: bool,
    pub pace: Pace,
}

/// How long a request may take. Slow work leaves slots to quicker work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// As long as the control plane takes to answer.
    #[default]
    Quick,
    /// As long as a guest takes to react.
    Slow,
    /// As long as images and disks take to be moved.
    Long,
}

const PACES: usize = 3;

/// The requests that wait, and how many run. Knows nothing of what they are.
pub(super) struct Backlog<T> {
    /// For each pace, how many of that pace or a slower one may run at a time.
    limits: [usize; PACES],
    /// For each pace, how many run.
    running: [usize; PACES],
    /// How many of each order run.
    busy: HashMap<String, usize>,
    waiting: VecDeque<(Admission, T)>,
}

impl<T> Backlog<T> {
    /// At most `limit` requests run: half of them long, and a few slots are for quick ones only.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        let limits = [limit, (limit * 7 / 8).max(1), (limit / 2).max(1)];
        Self { limits, running: [0; PACES], busy: HashMap::new(), waiting: VecDeque::new() }
    }

    pub(super) fn push(&mut self, admission: Admission, request: T) {
        self.waiting.push_back((admission, request));
    }

    /// The next request that may begin. It runs until [`Self::ended`].
    pub(super) fn begin(&mut self) -> Option<(Admission, T)> {
        let mut held_up = HashSet::new();
        let index = self.waiting.iter().position(|(admission, _)| {
            let order = admission.order.as_deref();
            let in_turn = admission.urgent
                || order.is_none_or(|order| !self.busy.contains_key(order) && !held_up.contains(order));
            let begins = in_turn && self.has_slot(admission.pace);
            held_up.extend(order.filter(|_| !begins));
            begins
        })?;
        let (admission, request) = self.waiting.remove(index)?;
        self.running[admission.pace as usize] += 1;
        if let Some(order) = &admission.order {
            *self.busy.entry(order.clone()).or_default() += 1;
        }
        Some((admission, request))
    }

    /// A request that had begun has ended.
    pub(super) fn ended(&mut self, admission: &Admission) {
        let running = &mut self.running[admission.pace as usize];
        *running = running.saturating_sub(1);
        if let Some(order) = &admission.order
            && let Some(count) = self.busy.get_mut(order)
        {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(order);
            }
        }
    }

    /// Forgets those that wait.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn has_slot(&self, pace: Pace) -> bool {
        // Slow work counts against the limit of quick work, and not the other way round.
        (0..=pace as usize).all(|pace| self.running[pace..].iter().sum::<usize>() < self.limits[pace])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(order: &str) -> Admission {
        Admission { order: Some(order.to_owned()), ..Admission::default() }
    }

    fn paced(pace: Pace) -> Admission {
        Admission { pace, ..Admission::default() }
    }

    fn begun(backlog: &mut Backlog<u32>) -> Vec<u32> {
        std::iter::from_fn(|| backlog.begin()).map(|(_, request)| request).collect()
    }

    #[test]
    fn as_many_begin_as_there_are_slots_and_an_end_makes_room_for_one() {
        let mut backlog = Backlog::new(3);
        (0..5).for_each(|number| backlog.push(Admission::default(), number));
        assert_eq!(begun(&mut backlog), [0, 1, 2]);
        backlog.ended(&Admission::default());
        assert_eq!(begun(&mut backlog), [3]);
    }

    #[test]
    fn requests_of_one_order_begin_one_after_the_other_and_let_others_pass() {
        let mut backlog = Backlog::new(64);
        for (order, number) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            backlog.push(of(order), number);
        }
        assert_eq!(begun(&mut backlog), [1, 3]);
        backlog.ended(&of("a"));
        assert_eq!(begun(&mut backlog), [2]);
        backlog.ended(&of("b"));
        assert!(begun(&mut backlog).is_empty());
        backlog.ended(&of("a"));
        assert_eq!(begun(&mut backlog), [4]);
    }

    #[test]
    fn an_order_is_kept_when_its_first_request_waits_for_a_slot_that_its_second_does_not_need() {
        let mut backlog = Backlog::new(2);
        backlog.push(paced(Pace::Long), 1);
        backlog.push(Admission { pace: Pace::Long, ..of("a") }, 2);
        backlog.push(of("a"), 3);
        assert_eq!(begun(&mut backlog), [1]);
        backlog.ended(&paced(Pace::Long));
        assert_eq!(begun(&mut backlog), [2]);
    }

    #[test]
    fn an_urgent_request_waits_for_none_of_its_order_and_those_after_it_wait_for_it() {
        let mut backlog = Backlog::new(64);
        let urgent = Admission { urgent: true, ..of("a") };
        backlog.push(of("a"), 1);
        backlog.push(of("a"), 2);
        backlog.push(urgent.clone(), 3);
        assert_eq!(begun(&mut backlog), [1, 3]);
        backlog.ended(&of("a"));
        assert!(begun(&mut backlog).is_empty());
        backlog.ended(&urgent);
        assert_eq!(begun(&mut backlog), [2]);
    }

    #[test]
    fn slow_work_leaves_slots_to_quicker_work_and_not_the_other_way_round() {
        let mut backlog = Backlog::new(8);
        (0..20).for_each(|number| backlog.push(paced(Pace::Long), number));
        assert_eq!(begun(&mut backlog).len(), 4);
        (20..40).for_each(|number| backlog.push(paced(Pace::Slow), number));
        assert_eq!(begun(&mut backlog), [20, 21, 22]);
        (40..60).for_each(|number| backlog.push(paced(Pace::Quick), number));
        assert_eq!(begun(&mut backlog), [40]);

        let mut backlog = Backlog::new(8);
        (0..20).for_each(|number| backlog.push(paced(Pace::Quick), number));
        assert_eq!(begun(&mut backlog).len(), 8);
    }

    #[test]
    fn a_server_of_one_slot_does_everything_in_turn() {
        let mut backlog = Backlog::new(1);
        for (number, pace) in [Pace::Long, Pace::Slow, Pace::Quick].into_iter().enumerate() {
            backlog.push(paced(pace), number as u32);
        }
        for (number, pace) in [Pace::Long, Pace::Slow, Pace::Quick].into_iter().enumerate() {
            assert_eq!(begun(&mut backlog), [number as u32]);
            backlog.ended(&paced(pace));
        }
    }
}
