//! What a worker decides about a claimed run before and after it dispatches it: verdict, retry and
//! backoff, misfire. Pure functions; the worker applies them, the store fences them.
