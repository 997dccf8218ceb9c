//! The pages of memory that hold our own code and constants.
//!
//! Must not touch any that was ever written.

use std::slice;

use nix::libc;

/// A segment of the program, as its file's header has it.
type Segment = libc::Elf64_Phdr;

/// Lets go of the code and constants that only the start needed. The pages stay in the page cache, which every
/// process of this binary shares, and come back when they are touched; but most of a start's never are, and they
/// count as resident for each of many wrappers and agents.
pub fn drop_startup_pages() {
    // SAFETY: the callback takes what it is called with for what dl_iterate_phdr(3) says it is.
    unsafe { libc::dl_iterate_phdr(Some(drop_pages), std::ptr::null_mut()) };
}

/// Called with the program itself first; which is all, where nothing is linked dynamically.
unsafe extern "C" fn drop_pages(
    program: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: a valid one for as long as this call.
    let program = unsafe { &*program };
    // SAFETY: the header is mapped with the program and never written.
    let segments = unsafe { slice::from_raw_parts(program.dlpi_phdr, program.dlpi_phnum.into()) };
    // SAFETY: no pointers are involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(4096);
    for (start, length) in segments.iter().filter_map(|segment| unwritten(segment, page)) {
        let start = program.dlpi_addr as usize + start;
        // SAFETY: the range is a mapping of a file that was never writable, so that what comes back is what
        // was there.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    // No more than the first.
    1
}

/// Where a segment's pages are, if nobody can have written them: where from the program's base, and bytes. What is
/// relocated at the start lies in segments that may be written then.
fn unwritten(segment: &Segment, page: usize) -> Option<(usize, usize)> {
    if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
        return None;
    }
    let start = usize::try_from(segment.p_vaddr).ok()?;
    let end = start.checked_add(usize::try_from(segment.p_memsz).ok()?)?;
    let first = start & !(page - 1);
    Some((first, end.checked_next_multiple_of(page)? - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_and_never_written_can_be_dropped() {
        let segment = |p_type, p_flags| Segment {
            p_type,
            p_flags,
            p_offset: 0,
            p_vaddr: 0x1234,
            p_paddr: 0,
            p_filesz: 0x2000,
            p_memsz: 0x2000,
            p_align: 4096,
        };
        let (x, w, r) = (libc::PF_X, libc::PF_W, libc::PF_R);
        for (kind, flags, expected) in [
            (libc::PT_LOAD, r | x, Some((0x1000, 0x3000))),
            (libc::PT_LOAD, r, Some((0x1000, 0x3000))),
            (libc::PT_LOAD, r | w | x, None),
            (libc::PT_GNU_STACK, r | x, None),
            (libc::PT_GNU_RELRO, r, None),
        ] {
            assert_eq!(unwritten(&segment(kind, flags), 4096), expected, "{kind} {flags}");
        }
    }
}
