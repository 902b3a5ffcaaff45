//! Huge pages: none for the node's own memory, those that they want for the programs it starts.

/// Takes back what the allocator asks the kernel for when the process begins.
///
/// An allocator that may have huge pages puts the few megabytes of an idle node on 16 of them. Told to do without, it has the kernel
/// keep them from the process, and that is inherited by the programs that this one starts, of which some (large arrays) are quicker
/// with them. The allocator's own memory stays without, as it does not ask for them.
pub fn allow() {
    // Kernels before 3.15 do not know it, and have kept nothing.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
}

#[cfg(test)]
mod tests {
    /// Goal: what is started from here may have them.
    #[test]
    fn they_are_allowed() {
        rustix::thread::disable_transparent_huge_pages(true).unwrap();
        assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap(), "as the allocator leaves it");
        super::allow();
        assert!(!rustix::thread::transparent_huge_pages_are_disabled().unwrap());
    }
}
