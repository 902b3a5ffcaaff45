//! The `#[task]` attribute of umbel.

use proc_macro::TokenStream;

/// Makes a function a task.
#[proc_macro_attribute]
pub fn task(_options: TokenStream, function: TokenStream) -> TokenStream {
    function
}
