//! The suite of this seam.
