//! Which of several servers is asked first for something: rendezvous hashing, so that all who ask agree without a word,
//! and a server that comes or goes moves no other's share.

use crate::ring::hash;

/// The places of `servers` in the order in which they are to be asked for what `key` names. All who name the servers
/// alike, in whatever order, get the same.
#[must_use]
pub fn preference(key: &str, servers: &[String]) -> Vec<usize> {
    let weight = |server: &String| hash(format!("{key}\0{server}").as_bytes());
    let mut places: Vec<_> = (0..servers.len()).collect();
    places.sort_by_cached_key(|place| {
        std::cmp::Reverse((weight(&servers[*place]), &servers[*place]))
    });
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("http://cache-{number}:6390")).collect()
    }

    #[test]
    fn all_agree_whatever_the_order_of_their_configuration() {
        let forward = servers(5);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        for image in 0..50 {
            let key = format!("https://images/{image}.qcow2");
            let names = |servers: &[String]| -> Vec<_> {
                preference(&key, servers).into_iter().map(|place| servers[place].clone()).collect()
            };
            assert_eq!(names(&forward), names(&backward));
        }
    }

    #[test]
    fn shares_are_even_and_only_a_lost_servers_share_moves() {
        let (all, rest) = (servers(4), servers(3));
        let mut first = [0; 4];
        for image in 0..4000 {
            let key = format!("https://images/{image}.qcow2");
            let (before, after) = (preference(&key, &all), preference(&key, &rest));
            first[before[0]] += 1;
            let without_lost: Vec<_> = before.into_iter().filter(|place| *place != 3).collect();
            assert_eq!(without_lost, after);
        }
        assert!(first.iter().all(|share| (900..1100).contains(share)), "{first:?}");
    }
}
