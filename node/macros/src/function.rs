//! The function under the attribute: what a task may look like, and what is wrong with one that does not.

use proc_macro2::Ident;
use syn::{Attribute, Error, Expr, FnArg, ItemFn, Meta, Pat, Result, ReturnType, Type, spanned::Spanned};

/// How the first parameter wants its context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakesContext {
    No,
    ByValue,
    ByReference,
}

/// One argument of the task.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// The value when the call gives none.
    pub(crate) default: Option<Default>,
}

/// Where a missing argument's value comes from.
pub(crate) enum Default {
    /// `Default::default()`.
    OfType,
    /// `#[default = expr]`.
    Expr(Box<Expr>),
}

/// A function that may be a task.
pub(crate) struct Function {
    /// The function, our own attributes taken off its parameters.
    pub(crate) item: ItemFn,
    pub(crate) context: TakesContext,
    pub(crate) parameters: Vec<Parameter>,
}

impl Function {
    pub(crate) fn read(mut item: ItemFn) -> Result<Self> {
        check(&item)?;
        let mut context = TakesContext::No;
        let mut parameters = Vec::new();
        for (position, input) in item.sig.inputs.iter_mut().enumerate() {
            let FnArg::Typed(input) = input else {
                return Err(Error::new(input.span(), "a task has no `self`: make it a free function"));
            };
            if let Some(takes) = takes_context(&input.ty) {
                if position > 0 {
                    return Err(Error::new(input.ty.span(), "the context is a task's first parameter"));
                }
                context = takes;
                continue;
            }
            let name = match &*input.pat {
                Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
                other => return Err(Error::new(other.span(), "callers name a task's arguments: give this one a plain name")),
            };
            owned(&input.ty)?;
            let default = take_default(&mut input.attrs)?.or_else(|| is_option(&input.ty).then_some(Default::OfType));
            if let (None, Some(Parameter { default: Some(_), name: before, .. })) = (&default, parameters.last()) {
                let text = format!("`{name}` has no default but follows `{before}`, which has one");
                return Err(Error::new(name.span(), text));
            }
            parameters.push(Parameter { name, ty: (*input.ty).clone(), default });
        }
        Ok(Self { item, context, parameters })
    }

    pub(crate) fn is_async(&self) -> bool {
        self.item.sig.asyncness.is_some()
    }
}

fn check(item: &ItemFn) -> Result<()> {
    let sig = &item.sig;
    if let Some(parameter) = sig.generics.params.first() {
        return Err(Error::new(parameter.span(), "a task cannot be generic: callers know it by its name alone"));
    }
    if let Some(unsafety) = &sig.unsafety {
        return Err(Error::new(unsafety.span(), "a task cannot be unsafe: anybody may call it"));
    }
    if let Some(constness) = &sig.constness {
        return Err(Error::new(constness.span(), "a task cannot be const"));
    }
    if let Some(variadic) = &sig.variadic {
        return Err(Error::new(variadic.span(), "a task cannot be variadic: take a `Vec`"));
    }
    match &sig.output {
        ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_)) => {
            Err(Error::new(ty.span(), "a task returns a concrete type that can be serialized"))
        }
        _ => Ok(()),
    }
}

fn takes_context(ty: &Type) -> Option<TakesContext> {
    match ty {
        Type::Path(_) if last_segment(ty)? == "Context" => Some(TakesContext::ByValue),
        Type::Reference(reference) if reference.mutability.is_none() && last_segment(&reference.elem)? == "Context" => {
            Some(TakesContext::ByReference)
        }
        _ => None,
    }
}

fn is_option(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|segment| segment == "Option")
}

fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// Arguments are read from a message that is gone before the task runs.
fn owned(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(reference) => {
            let hint = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => ": use `String`",
                Type::Slice(_) => ": use `Vec<_>`",
                _ => "",
            };
            Err(Error::new(ty.span(), format!("a task's arguments own their data{hint}")))
        }
        Type::ImplTrait(_) => Err(Error::new(ty.span(), "a task's arguments have concrete types")),
        _ => Ok(()),
    }
}

fn take_default(attributes: &mut Vec<Attribute>) -> Result<Option<Default>> {
    let mut default = None;
    let mut error = None;
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("default") {
            return true;
        }
        match &attribute.meta {
            Meta::Path(_) => default = Some(Default::OfType),
            Meta::NameValue(pair) => default = Some(Default::Expr(Box::new(pair.value.clone()))),
            Meta::List(list) => error = Some(Error::new(list.span(), "write `#[default]` or `#[default = value]`")),
        }
        false
    });
    error.map_or(Ok(default), Err)
}
