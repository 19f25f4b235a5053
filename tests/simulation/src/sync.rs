//! What tasks share: a value that can be waited on, and a queue.

use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A value, and whoever waits for it to change.
#[derive(Debug, Default)]
pub(crate) struct Watch<T> {
    value: RefCell<T>,
    waiting: RefCell<Vec<Waker>>,
}

impl<T> Watch<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: RefCell::new(value), waiting: RefCell::default() }
    }

    pub(crate) fn get(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    pub(crate) fn set(&self, value: T) {
        self.update(|held| *held = value);
    }

    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.value.borrow_mut());
        self.waiting.take().into_iter().for_each(Waker::wake);
        changed
    }

    /// Waits until `found` finds what it looks for.
    pub(crate) async fn until<R>(&self, mut found: impl FnMut(&T) -> Option<R>) -> R {
        poll_fn(|context| match found(&self.get()) {
            Some(found) => Poll::Ready(found),
            None => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// First in, first out; one reader.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: Watch<VecDeque<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Watch::new(VecDeque::new()) }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&self, item: T) {
        self.items.update(|items| items.push_back(item));
    }

    pub(crate) fn try_pop(&self) -> Option<T> {
        self.items.value.borrow_mut().pop_front()
    }

    pub(crate) async fn pop(&self) -> T {
        loop {
            self.items.until(|items| (!items.is_empty()).then_some(())).await;
            if let Some(item) = self.try_pop() {
                return item;
            }
        }
    }
}
