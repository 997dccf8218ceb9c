//! The process's allocator: the system's, except that large blocks are kept for whoever wants one next.
//!
//! musl maps memory for every block of tens of KiB and unmaps it when it is freed, so that the kernel clears
//! each page again and again; where lines pass by, that cost more than to encrypt them. Must not keep more
//! than [`KEPT`] bytes, and must not wait: a thread that finds the shelves in use goes to the system.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes that lie ready at most: the packets that are under way between two threads.
const KEPT: usize = 4 * 1024 * 1024;

/// Smaller blocks are musl's to keep, larger ones too rare.
const SMALLEST: usize = 16 * 1024 + 1;
const LARGEST: usize = 1024 * 1024;

/// Sizes between a power of two and the next: a block has at most a quarter more than was asked for.
const STEPS: usize = 4;

/// Doublings from [`SMALLEST`] to [`LARGEST`], each in [`STEPS`].
const CLASSES: usize = 6 * STEPS;

/// What every block that is kept is aligned to.
const ALIGN: usize = 16;

/// An allocator that keeps large blocks.
#[derive(Debug)]
pub struct Blocks {
    busy: AtomicBool,
    shelves: UnsafeCell<Shelves>,
}

// SAFETY: the shelves are only touched by whoever has set `busy`.
unsafe impl Sync for Blocks {}

/// Free blocks by class, each a list whose links stand in the blocks themselves.
#[derive(Debug)]
struct Shelves {
    heads: [Option<NonNull<Link>>; CLASSES],
    bytes: usize,
}

#[derive(Debug)]
struct Link(Option<NonNull<Link>>);

/// A size that blocks are rounded up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class {
    index: usize,
    size: usize,
}

impl Class {
    fn of(layout: Layout) -> Option<Self> {
        if !(SMALLEST..=LARGEST).contains(&layout.size()) || layout.align() > ALIGN {
            return None;
        }
        let last = layout.size() - 1;
        let doubling = last.ilog2();
        let step = (1 << doubling) / STEPS;
        let steps = last / step - STEPS;
        let index = (doubling - (SMALLEST - 1).ilog2()) as usize * STEPS + steps;
        Some(Self { index, size: (1 << doubling) + (steps + 1) * step })
    }

    fn layout(self) -> Layout {
        // SAFETY: the alignment is a power of two, and the size far from the limit.
        unsafe { Layout::from_size_align_unchecked(self.size, ALIGN) }
    }
}

impl Blocks {
    /// Nothing is kept yet.
    #[must_use]
    pub const fn new() -> Self {
        let shelves = Shelves { heads: [None; CLASSES], bytes: 0 };
        Self { busy: AtomicBool::new(false), shelves: UnsafeCell::new(shelves) }
    }

    /// Uses the shelves, unless somebody does at this moment.
    fn shelves<T>(&self, work: impl FnOnce(&mut Shelves) -> T) -> Option<T> {
        self.busy.compare_exchange(false, true, Acquire, Relaxed).ok()?;
        // SAFETY: `busy` was ours to set, so nobody else has a reference.
        let result = work(unsafe { &mut *self.shelves.get() });
        self.busy.store(false, Release);
        Some(result)
    }

    fn take(&self, class: Class) -> Option<NonNull<u8>> {
        self.shelves(|shelves| shelves.take(class)).flatten()
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Shelves {
    fn take(&mut self, class: Class) -> Option<NonNull<u8>> {
        let head = &mut self.heads[class.index];
        let block = head.take()?;
        // SAFETY: a block on a shelf is free and begins with its link.
        *head = unsafe { block.read() }.0;
        self.bytes -= class.size;
        Some(block.cast())
    }

    /// False: there is no room for it.
    fn keep(&mut self, class: Class, block: NonNull<u8>) -> bool {
        if self.bytes + class.size > KEPT {
            return false;
        }
        let (head, block) = (&mut self.heads[class.index], block.cast::<Link>());
        // SAFETY: the block is free, large enough for a link and aligned for one.
        unsafe { block.write(Link(head.take())) };
        *head = Some(block);
        self.bytes += class.size;
        true
    }
}

// SAFETY: a layout always maps to the same class, so that a block is given back as it was taken: with the
// class's layout where it has one, with its own otherwise. A block is on a shelf or in use, never both.
// Not inlined: thousands of callers would make the binary larger by a megabyte.
unsafe impl GlobalAlloc for Blocks {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promises are System's.
            return unsafe { System.alloc(layout) };
        };
        match self.take(class) {
            Some(block) => block.as_ptr(),
            // SAFETY: the size is not zero.
            None => unsafe { System.alloc(class.layout()) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promises are System's.
            return unsafe { System.alloc_zeroed(layout) };
        };
        match self.take(class) {
            Some(block) => {
                // SAFETY: the block has at least this size.
                unsafe { ptr::write_bytes(block.as_ptr(), 0, layout.size()) };
                block.as_ptr()
            }
            // SAFETY: the size is not zero.
            None => unsafe { System.alloc_zeroed(class.layout()) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promises are System's.
            return unsafe { System.dealloc(block, layout) };
        };
        let kept = NonNull::new(block).and_then(|block| self.shelves(|all| all.keep(class, block)));
        if kept != Some(true) {
            // SAFETY: it came from System with the class's layout.
            unsafe { System.dealloc(block, class.layout()) };
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size does not overflow when rounded up to the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            // SAFETY: the caller's promises are System's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: the caller promises that the size is not zero.
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both are as large, and the new one is nobody else's.
                    unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
                    // SAFETY: the caller's promise; it is in use no more.
                    unsafe { self.dealloc(block, layout) };
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn classes_cover_their_sizes_with_little_waste() {
        let mut last = 0;
        for size in SMALLEST..=LARGEST {
            let class = Class::of(layout(size)).unwrap();
            assert!(class.size >= size && class.size <= size + size / STEPS, "{size}: {class:?}");
            assert!(class.index == last || class.index == last + 1, "{size}: {class:?}");
            last = class.index;
        }
        assert_eq!(last, CLASSES - 1);
        assert_eq!(Class::of(layout(SMALLEST - 1)), None);
        assert_eq!(Class::of(layout(LARGEST + 1)), None);
    }

    #[test]
    fn a_block_comes_back_and_too_many_are_not_kept() {
        let blocks = Blocks::new();
        let size = layout(100_000);
        // SAFETY: the layouts are those of the blocks, and nothing uses them.
        unsafe {
            let first = blocks.alloc(size);
            first.write_bytes(7, size.size());
            blocks.dealloc(first, size);
            let again = blocks.alloc_zeroed(layout(99_000));
            assert_eq!(again, first);
            assert!((0..99_000).all(|at| again.add(at).read() == 0));
            let many: Vec<_> = (0..100).map(|_| blocks.alloc(size)).collect();
            many.into_iter().for_each(|block| blocks.dealloc(block, size));
            blocks.dealloc(again, layout(99_000));
            assert!((*blocks.shelves.get()).bytes <= KEPT);
            while let Some(block) = blocks.take(Class::of(size).unwrap()) {
                System.dealloc(block.as_ptr(), Class::of(size).unwrap().layout());
            }
            assert_eq!((*blocks.shelves.get()).bytes, 0);
        }
    }

    #[test]
    fn growing_and_shrinking_keep_the_bytes() {
        let blocks = Blocks::new();
        // SAFETY: each layout is the block's at that time.
        unsafe {
            let mut size = 1000;
            let mut block = blocks.alloc(layout(size));
            block.write_bytes(9, size);
            for next in [20_000, 20_100, 300_000, 2_000_000, 1_999_000, 50_000, 1000] {
                block = blocks.realloc(block, layout(size), next);
                assert!((0..1000).all(|at| block.add(at).read() == 9), "{size} to {next}");
                size = next;
            }
            blocks.dealloc(block, layout(size));
        }
    }
}
