// What a session, its queued work and its batchers share.
#pragma once

#include <string>
#include <utility>

#include "backend.hpp"
#include "linglos/session.hpp"
#include "pool.hpp"
#include "workers.hpp"

namespace linglos {
namespace detail {

/// An opened model with its bundle.
struct Core {
  Bundle bundle;
  Choice choice;
  std::string device;
  Pool pool;

  Core(Bundle from, const SessionOptions& options, Choice chosen)
      : bundle(std::move(from)),
        choice(std::move(chosen)),
        device(choice.engine->device()),
        pool(std::move(choice.engine), bundle.manifest().preprocessing, choice.input, options.contexts) {}
};

}  // namespace detail

struct Session::Impl {
  std::shared_ptr<detail::Core> core;  // queued work holds it too: a callback may destroy the session
  detail::Workers workers;             // last: its destructor finishes what was submitted

  Impl(const Bundle& bundle, const SessionOptions& options)
      : core(std::make_shared<detail::Core>(bundle, options, detail::choose_engine(bundle, options))),
        workers(static_cast<std::size_t>(options.contexts), options.queue) {}
};

}  // namespace linglos
