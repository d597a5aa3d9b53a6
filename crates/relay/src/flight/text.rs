//! The bytes of an answer, as far as they are there.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::gather::FRAME;

/// Bytes that are written at the end and read from any place. They are copied into pieces of one
/// size, so that little texts do not keep the large buffers that they came in.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Bytes before the first piece, which are gone: whole pieces.
    gone: u64,
    /// Full pieces of [`FRAME`] bytes.
    pieces: VecDeque<Bytes>,
    /// The beginning of the next one.
    tail: Vec<u8>,
}

impl Text {
    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.pieces.len() * FRAME + self.tail.len()
    }

    /// Where it ends, counted from its beginning.
    pub(super) fn end(&self) -> u64 {
        self.gone + self.held() as u64
    }

    pub(super) fn push(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(FRAME - self.tail.len()));
            self.tail.extend_from_slice(now);
            if self.tail.len() == FRAME {
                let piece = std::mem::take(&mut self.tail).into_boxed_slice();
                self.pieces.push_back(Bytes::from(piece));
            }
            data = later;
        }
    }

    /// What is there from a place on, up to the end of its piece; nothing behind the end. A place
    /// that is gone reads as the first that is not.
    pub(super) fn from(&self, place: u64) -> Bytes {
        // What is held fits in memory, so its places fit in a usize.
        let offset = usize::try_from(place.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        let within = offset % FRAME;
        match self.pieces.get(offset / FRAME) {
            Some(piece) => piece.slice(within..),
            None if offset < self.held() => Bytes::copy_from_slice(&self.tail[within..]),
            None => Bytes::new(),
        }
    }

    /// Lets go of full pieces before a place. Says how many bytes that were.
    pub(super) fn let_go(&mut self, place: u64) -> usize {
        let before = self.pieces.len();
        while self.gone + FRAME as u64 <= place && self.pieces.pop_front().is_some() {
            self.gone += FRAME as u64;
        }
        (before - self.pieces.len()) * FRAME
    }

    /// Nothing more will come: gives back what was kept free for it.
    pub(super) fn close(&mut self) {
        self.tail.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| u8::try_from(at * 7 % 251).unwrap_or_default()).collect()
    }

    fn read(text: &Text, mut place: u64) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            let data = text.from(place);
            if data.is_empty() {
                return read;
            }
            place += data.len() as u64;
            read.extend_from_slice(&data);
        }
    }

    #[test]
    fn what_was_written_is_read_from_any_place_however_it_was_cut() {
        let whole = bytes(3 * FRAME + 17);
        for cut in [1, 1000, FRAME - 1, FRAME, FRAME + 1, whole.len()] {
            let mut text = Text::default();
            whole.chunks(cut).for_each(|data| text.push(data));
            assert_eq!((text.held(), text.end()), (whole.len(), whole.len() as u64));
            for place in [0, 1, FRAME - 1, FRAME, 2 * FRAME + 5, whole.len() - 1, whole.len()] {
                assert_eq!(read(&text, place as u64), whole[place..], "{cut}, from {place}");
            }
        }
    }

    #[test]
    fn what_is_let_go_takes_nothing_with_it_that_comes_later() {
        let whole = bytes(3 * FRAME + 17);
        let mut text = Text::default();
        text.push(&whole);
        assert_eq!(text.let_go(FRAME as u64 - 1), 0);
        assert_eq!(text.let_go(2 * FRAME as u64 + 1), 2 * FRAME);
        assert_eq!((text.held(), text.end()), (FRAME + 17, whole.len() as u64));
        assert_eq!(read(&text, 2 * FRAME as u64 + 1), whole[2 * FRAME + 1..]);
        text.push(&whole);
        assert_eq!(text.end(), 2 * whole.len() as u64);
        assert_eq!(text.let_go(u64::MAX) % FRAME, 0);
        assert!(text.from(text.end()).is_empty());
    }
}
