//! quick
use blocktier::diskmap::*;
use blocktier::runtime::Runtime;
use blocktier::settings::*;
use blocktier::txmap::DiskTxMap;

#[derive(Clone, Copy)]
struct Instant(std::time::Duration, std::time::Instant);
fn cpu() -> std::time::Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
impl Instant {
    fn now() -> Self {
        Self(cpu(), std::time::Instant::now())
    }
    fn elapsed(&self) -> std::time::Duration {
        println!("  wall {:?} cpu {:?}", self.1.elapsed(), cpu() - self.0);
        cpu() - self.0
    }
}

fn key(n: u64) -> [u8; 32] {
    let mut k = [0; 32];
    for (i, c) in k.chunks_mut(8).enumerate() {
        c.copy_from_slice(
            &(n.wrapping_mul(0x9e3779b97f4a7c15).rotate_left(i as u32 * 13) ^ i as u64)
                .to_le_bytes(),
        );
    }
    k
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir_in("target").unwrap();
    let n: u64 = std::env::var("N").ok().map_or(300_000, |n| n.parse().unwrap());
    let tail = std::env::var("TAIL").unwrap_or("1M".into());
    let rt = Runtime::open(&RuntimeSettings::default()).unwrap();
    let s = TxMapSettings::parse(&format!(
        "txMapDirs = {}\ntxMapTail = {tail}\ntxMapPrefault=on\ntxMapExpectedEntries={}",
        dir.path().display(),
        std::env::var("HINT").unwrap_or("0".into())
    ))
    .unwrap();
    let map = DiskTxMap::open(&rt, &s).unwrap();
    let keys: Vec<_> = (0..n).map(key).collect();
    let value = [7u8; 84];
    let arena: Vec<u8> = value.iter().copied().cycle().take(84 * 256).collect();
    let offsets: Vec<u64> = (0..=256).map(|i| i * 84).collect();
    for _ in 0..2 {
        map.clear().unwrap();
        let t = Instant::now();
        for chunk in keys.chunks(256) {
            let mut states = vec![ItemState::Pending; chunk.len()];
            let b = Batch::new(chunk, &arena, &offsets[..=chunk.len()], None).unwrap();
            map.set_if_not_exists_batch(&b, Wait::Allowed, &mut states).unwrap();
            assert!(states.iter().all(|s| *s == ItemState::Done));
        }
        println!("insert ram {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
        map.flush().unwrap();
        println!("insert {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    }
    assert_eq!(map.len(), n);
    let t = Instant::now();
    let mut hits = 0;
    for chunk in keys.chunks(4096) {
        let b = map
            .get_batch(chunk, true, Wait::Allowed, |_, v, _| {
                assert_eq!(v, value);
                hits += 1;
                Ok(())
            })
            .unwrap();
        assert!(b.is_empty());
    }
    println!("get batch {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    assert_eq!(hits, n);
    let absent: Vec<_> = (n..2 * n).map(key).collect();
    let t = Instant::now();
    for chunk in absent.chunks(256) {
        map.get_batch(chunk, false, Wait::Allowed, |_, _, _| panic!()).unwrap();
    }
    println!("absent {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    for k in keys.iter().step_by(1001).take(300) {
        assert!(map.delete(k, Wait::Allowed).unwrap());
        assert!(!map.exists(k, Wait::Allowed).unwrap());
    }
    let t = Instant::now();
    for k in &absent[..(n as usize / 4)] {
        assert_eq!(
            map.set_if_not_exists(k, &value, 0, Wait::Allowed, |_, _| ()).unwrap(),
            Inserted::New
        );
    }
    println!("insert one {:.2} M/s", n as f64 / 4. / t.elapsed().as_secs_f64() / 1e6);
    println!("{:?}", map.stats());
    map.clear().unwrap();
    assert!(map.is_empty());
}
