//! The code that a task becomes.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Attribute, Error, Visibility, spanned::Spanned};

use crate::{
    function::{Default, Function, Parameter, TakesContext},
    options::Options,
};

/// The type, its constructors and its `Task`.
pub(crate) fn expand(options: &Options, function: &Function) -> TokenStream {
    let name = &function.item.sig.ident;
    let vis = &function.item.vis;
    let docs = attributes(function, |name| name == "doc");
    let cfgs = attributes(function, |name| name == "cfg");
    let call = call(function);
    let constructors = constructors(function);
    let spec = spec(options, name);
    let start = start(function);
    let parameters = function.parameters.iter().map(|parameter| {
        let (name, required) = (parameter.name.to_string(), parameter.default.is_none());
        quote!(::umbel::executors::native::Parameter { name: #name, required: #required })
    });
    let hears = function.context != TakesContext::No;
    let text = name.to_string();
    let value = value(name, vis, &cfgs);
    quote! {
        #(#cfgs)*
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #vis struct #name {}

        #value

        #(#cfgs)*
        #[allow(dead_code, unreachable_pub, clippy::too_many_arguments)]
        impl #name {
            #call
            #constructors
        }

        #(#cfgs)*
        impl ::umbel::executors::native::Task for #name {
            fn spec(&self) -> ::umbel::scheduler::TaskSpec {
                #spec
            }
            fn hears(&self) -> bool {
                #hears
            }
            fn start(&self, __call: ::umbel::executors::native::Call) -> ::umbel::executors::native::Run {
                const __PARAMETERS: &[::umbel::executors::native::Parameter] = &[#(#parameters),*];
                const __TASK: &str = #text;
                #start
            }
        }
    }
}

/// What is written for a function that is no task: the error, and the type, so that its users do not miss it too.
pub(crate) fn failed(name: &Ident, vis: &Visibility, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    let value = value(name, vis, &[]);
    quote! {
        #error
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Debug, Clone, Copy)]
        #vis struct #name {}
        #value
        impl ::umbel::executors::native::Task for #name {
            fn spec(&self) -> ::umbel::scheduler::TaskSpec {
                ::core::unreachable!()
            }
            fn hears(&self) -> bool {
                false
            }
            fn start(&self, _: ::umbel::executors::native::Call) -> ::umbel::executors::native::Run {
                ::core::unreachable!()
            }
        }
    }
}

/// What the name is where a value is wanted: a function, since a unit struct of that name would forbid every variable of
/// the same name in its module.
fn value(name: &Ident, vis: &Visibility, cfgs: &[&Attribute]) -> TokenStream {
    quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(dead_code, unreachable_pub, missing_docs)]
        #vis fn #name() -> #name {
            #name {}
        }
    }
}

fn attributes(function: &Function, wanted: impl Fn(&Ident) -> bool) -> Vec<&Attribute> {
    function.item.attrs.iter().filter(|attribute| attribute.path().get_ident().is_some_and(&wanted)).collect()
}

/// The function itself, under the name `call`.
fn call(function: &Function) -> TokenStream {
    let attributes = function.item.attrs.iter().filter(|attribute| !attribute.path().is_ident("cfg"));
    let (vis, block) = (&function.item.vis, &function.item.block);
    let mut sig = function.item.sig.clone();
    sig.ident = Ident::new("call", sig.ident.span());
    quote! {
        #(#attributes)*
        #vis #sig #block
    }
}

fn constructors(function: &Function) -> TokenStream {
    let name = function.item.sig.ident.to_string();
    let vis = &function.item.vis;
    let names: Vec<&Ident> = function.parameters.iter().map(|parameter| &parameter.name).collect();
    let types: Vec<_> = function.parameters.iter().map(|parameter| &parameter.ty).collect();
    // Bounds with a lifetime are checked where the function is called, so that tasks whose arguments cannot be serialized
    // from Rust may still be defined and called from elsewhere.
    let bounds = types.iter().map(|ty| quote_spanned!(ty.span()=> for<'__call> #ty: ::umbel::executors::native::Serialize));
    let bounds: Vec<_> = bounds.collect();
    let failure = format!("an argument of {name} has no form on the wire");
    quote! {
        /// The name it is registered under.
        #vis fn name() -> ::umbel::proto::TaskName {
            ::umbel::executors::native::Task::spec(&Self {}).name
        }
        /// A call without arguments: they come with `.arg(..)` and `.kwarg(.., ..)`, or from the step before.
        #[must_use]
        #vis fn partial() -> ::umbel::proto::Signature {
            ::umbel::proto::Signature::new(Self::name())
        }
        /// The call as data.
        ///
        /// # Panics
        /// When an argument cannot be serialized; `try_s` says so instead.
        #[must_use]
        #[track_caller]
        #vis fn s(#(#names: #types),*) -> ::umbel::proto::Signature where #(#bounds),* {
            Self::try_s(#(#names),*).expect(#failure)
        }
        /// The call as data, immutable: what steps before it return is kept from its arguments.
        ///
        /// # Panics
        /// As `s`.
        #[must_use]
        #[track_caller]
        #vis fn si(#(#names: #types),*) -> ::umbel::proto::Signature where #(#bounds),* {
            Self::s(#(#names),*).immutable()
        }
        /// The call as data.
        ///
        /// # Errors
        /// When an argument cannot be serialized.
        #vis fn try_s(#(#names: #types),*) -> ::core::result::Result<::umbel::proto::Signature, ::umbel::proto::EncodeError>
        where #(#bounds),* {
            let mut __signature = Self::partial();
            #(__signature.args.push(::umbel::proto::Value::from_serialize(&#names)?);)*
            ::core::result::Result::Ok(__signature)
        }
    }
}

/// The body of `Task::spec`.
fn spec(options: &Options, name: &Ident) -> TokenStream {
    let registered = match &options.name {
        Some(name) => quote!(#name),
        None => {
            let name = name.to_string();
            quote!(::umbel::executors::native::default_name(::core::module_path!(), #name))
        }
    };
    let mut lines = TokenStream::new();
    let mut set = |field: &str, value: TokenStream| {
        let field = format_ident!("{field}");
        lines.extend(quote!(__spec.#field = #value;));
    };
    if let Some(queue) = &options.queue {
        set("queue", quote!(::core::option::Option::Some(::core::convert::From::from(#queue))));
    }
    if let Some(retries) = options.max_retries {
        set("max_retries", option(retries.map(|retries| quote!(#retries))));
    }
    for (field, flag) in [
        ("retry_on_failure", options.retry_on_failure),
        ("ignore_result", options.ignore_result),
        ("track_started", options.track_started),
        ("dead_letter_on_failure", options.dead_letter_on_failure),
    ] {
        if let Some(flag) = flag {
            set(field, quote!(#flag));
        }
    }
    if let Some(delay) = options.retry_delay {
        set("retry_delay_secs", quote!(#delay));
    }
    if let Some(Some(factor)) = options.backoff {
        let max = options.backoff_max.unwrap_or(600.0);
        let jitter = options.jitter.unwrap_or(true);
        set(
            "backoff",
            quote!(::core::option::Option::Some(::umbel::scheduler::Backoff { factor_secs: #factor, max_secs: #max, jitter: #jitter })),
        );
    }
    if let Some(rate) = &options.rate_limit {
        set("rate_limit", quote!(::umbel::executors::native::rate(#rate)));
    }
    let hard = option(options.time_limit.map(|secs| quote!(#secs)));
    let soft = option(options.soft_time_limit.map(|secs| quote!(#secs)));
    set("time_limit", quote!(::umbel::proto::TimeLimit { hard_secs: #hard, soft_secs: #soft }));
    match options.early {
        Some(true) => set("acknowledge", quote!(::umbel::scheduler::Acknowledge::Early)),
        Some(false) => set("acknowledge", quote!(::umbel::scheduler::Acknowledge::Late)),
        None => {}
    }
    quote! {
        let mut __spec = ::umbel::scheduler::TaskSpec::new(#registered);
        #lines
        __spec
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// The body of `Task::start`.
fn start(function: &Function) -> TokenStream {
    let locals: Vec<Ident> = (0..function.parameters.len()).map(|index| format_ident!("__{index}")).collect();
    let takes = function.parameters.iter().zip(&locals).enumerate().map(|(index, (parameter, local))| take(index, parameter, local));
    let context = match function.context {
        TakesContext::No => quote!(),
        TakesContext::ByValue => quote!(__context,),
        TakesContext::ByReference => quote!(&__context,),
    };
    let span = match &function.item.sig.output {
        syn::ReturnType::Type(_, ty) => ty.span(),
        syn::ReturnType::Default => function.item.sig.ident.span(),
    };
    let finish = quote_spanned! {span=> (&&&&::umbel::executors::native::Probe::of(&__value)).tag().finish(__value) };
    let waited = function.is_async().then(|| quote!(.await));
    let body = quote! {
        let ::umbel::executors::native::Call { args: __args, kwargs: __kwargs, context: __context } = __call;
        let mut __arguments = ::umbel::executors::native::Arguments::bind(__TASK, __PARAMETERS, __args, __kwargs)?;
        #(#takes)*
        ::core::mem::drop(__arguments);
        let __value = Self::call(#context #(#locals),*) #waited;
        {
            #[allow(unused_imports)]
            use ::umbel::executors::native::returned::{Display as _, Failure as _, Other as _, Plain as _};
            #finish
        }
    };
    let name = &function.item.sig.ident;
    if function.is_async() {
        quote_spanned!(name.span()=> ::umbel::executors::native::Run::future(async move { #body }))
    } else {
        quote_spanned!(name.span()=> ::umbel::executors::native::Run::blocking(move || { #body }))
    }
}

fn take(index: usize, parameter: &Parameter, local: &Ident) -> TokenStream {
    let ty = &parameter.ty;
    match &parameter.default {
        None => quote_spanned!(ty.span()=> let #local: #ty = __arguments.take::<#ty>(#index)?;),
        Some(Default::OfType) => {
            quote_spanned!(ty.span()=> let #local: #ty = __arguments.take_or::<#ty>(#index, ::core::default::Default::default)?;)
        }
        Some(Default::Expr(expr)) => {
            quote_spanned!(expr.span()=> #[allow(clippy::useless_conversion)] let #local: #ty = __arguments.take_or::<#ty>(#index, || ::core::convert::From::from(#expr))?;)
        }
    }
}
