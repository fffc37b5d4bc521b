"""Faults that could be in the code that builds, keeps, examines and runs engines, each with the test that notices it.

``test_trt_mutations.py`` puts them in one at a time, in a copy. A fault that no test notices is a test that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

RUNNER = "backends/trt/runner.py"
CUDA = "backends/trt/cuda.py"
RUN = "backends/trt/test_trt_runner.py"
SURFACES = "backends/trt/test_trt_surfaces.py"
BUILD = "backends/trt/test_trt_build.py"
PROOF = "backends/trt/test_trt_precision.py"
CACHE = "engines/test_cache.py"
PREFLIGHT = "engines/test_preflight.py"
PROFILES = "engines/test_profiles.py"
DEEPSTREAM = "engines/containers/deepstream.py"
STREAMS = "engines/test_deepstream.py"
FUSING = "backends/trt/test_trt_fusing.py"
SUMS = "quantization/test_residual_sums.py"
DLA = "engines/dla.py"
CORES = "engines/test_dla.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault.

    Attributes:
        what: What goes wrong.
        file: Where, below ``linglos_deploy``.
        old: The text there, which occurs once.
        new: What stands there instead.
        test: What notices it: a file below ``tests`` and a function in it.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = (
    # -- runner ------------------------------------------------------------------------------------------------
    Mutation(
        "outputs are read before the device is done",
        RUNNER,
        "            cuda.synchronize(self.stream)\n        except BaseException:",
        "        except BaseException:",
        f"{RUN}::test_every_answer_is_that_of_its_own_batch",
    ),
    Mutation(
        "inputs are not copied to the device",
        RUNNER,
        "                cuda.upload(self.buffers[name], array.nbytes, self.stream)\n",
        "",
        f"{RUN}::test_every_answer_is_that_of_its_own_batch",
    ),
    Mutation(
        "inputs are copied the wrong way",
        CUDA,
        'self.call("cudaMemcpyAsync", buffer.device, buffer.host, size, kind, stream)',
        'self.call("cudaMemcpyAsync", buffer.host, buffer.device, size, kind, stream)',
        f"{RUN}::test_every_answer_is_that_of_its_own_batch",
    ),
    Mutation(
        "outputs are copied with the wrong kind",
        CUDA,
        "kind = self._bindings.cudaMemcpyKind.cudaMemcpyDeviceToHost",
        "kind = self._bindings.cudaMemcpyKind.cudaMemcpyHostToDevice",
        f"{RUN}::test_every_answer_is_that_of_its_own_batch",
    ),
    Mutation(
        "all shapes share one context and its graph",
        RUNNER,
        "        place = key if self.records else profile\n",
        "        place = profile\n",
        f"{RUN}::test_a_shape_is_recorded_once_and_then_launched",
    ),
    Mutation(
        "the graph of another shape is replayed",
        RUNNER,
        "        if context.key != key:\n",
        "        if context.key is None:\n",
        f"{RUN}::test_every_answer_is_that_of_its_own_batch",
    ),
    Mutation(
        "a graph outlives the buffers that it was recorded with",
        RUNNER,
        "            self._free_graph(context)\n            context.addresses = ()\n",
        "            context.addresses = ()\n",
        f"{RUN}::test_buffers_that_move_take_their_recordings_with_them",
    ),
    Mutation(
        "new addresses are not told",
        RUNNER,
        "        if context.addresses != addresses:\n",
        "        if not context.addresses:\n",
        f"{RUN}::test_buffers_that_move_take_their_recordings_with_them",
    ),
    Mutation(
        "the device is not selected where a batch runs",
        RUNNER,
        "        cuda.make_current()\n        try:\n",
        "        try:\n",
        f"{RUN}::test_the_device_is_selected_on_every_thread_that_runs",
    ),
    Mutation(
        "the device is not selected before the engine is loaded",
        CUDA,
        "            )\n        self.make_current()\n",
        "            )\n",
        f"{RUN}::test_the_device_is_current_before_anything_is_loaded",
    ),
    Mutation(
        "another profile is chosen",
        RUNNER,
        "return min(found, key=",
        "return max(found, key=",
        f"{RUN}::test_the_profile_that_fits_best_is_taken",
    ),
    Mutation(
        "the first profile that fits is taken",
        RUNNER,
        "return min(found, key=lambda index: _distance(profiles[index], shapes))",
        "return found[0]",
        f"{RUN}::test_the_profile_that_fits_best_is_taken",
    ),
    Mutation(
        "the chosen profile is not told",
        RUNNER,
        "set_optimization_profile_async(profile, self.stream)",
        "set_optimization_profile_async(0, self.stream)",
        f"{RUN}::test_the_profile_that_fits_best_is_taken",
    ),
    Mutation(
        "the oldest context is dropped, not the one least recently used",
        RUNNER,
        "self.contexts.pop(place, None) or",
        "self.contexts.get(place) or",
        f"{RUN}::test_more_shapes_than_are_kept_drop_the_least_recently_used",
    ),
    Mutation(
        "answers are views of memory that goes",
        RUNNER,
        "shapes[spec.name]).copy()",
        "shapes[spec.name])",
        f"{RUN}::test_answers_are_the_callers_own_even_after_the_runner_is_closed",
    ),
    Mutation(
        "a buffer is freed before the larger one is there",
        CUDA,
        '        device = int(self.cuda.call("cudaMalloc", size))\n',
        '        self.free()\n        device = int(self.cuda.call("cudaMalloc", size))\n',
        f"{RUN}::test_after_running_out_of_memory_a_smaller_batch_works",
    ),
    Mutation(
        "device memory leaks when the host has none",
        CUDA,
        '            self.cuda.call("cudaFree", device)\n            raise\n',
        "            raise\n",
        f"{RUN}::test_after_running_out_of_memory_a_smaller_batch_works",
    ),
    Mutation(
        "work of a failed run goes on while buffers move",
        RUNNER,
        "                cuda.synchronize(self.stream)\n            raise\n",
        "                pass\n            raise\n",
        f"{RUN}::test_every_call_that_fails_is_our_error_and_the_next_batch_is_right",
    ),
    Mutation(
        "a recording that failed is never ended",
        RUNNER,
        "                cuda.free_graph(cuda.end_capture(self.stream))\n",
        "                pass\n",
        f"{RUN}::test_a_recording_that_fails_ends_and_leaves_plain_runs_and_their_answers",
    ),
    Mutation(
        "a recording that failed costs the answer",
        RUNNER,
        "                self.records = False  # the answer of the plain run stands; later ones are plain, too\n",
        "                raise\n",
        f"{RUN}::test_a_recording_that_fails_ends_and_leaves_plain_runs_and_their_answers",
    ),
    Mutation(
        "a recording that failed is tried again and again",
        RUNNER,
        "                self.records = False  # the answer of the plain run stands; later ones are plain, too\n",
        "",
        f"{RUN}::test_a_recording_that_fails_ends_and_leaves_plain_runs_and_their_answers",
    ),
    Mutation(
        "recordings are made and never used",
        RUNNER,
        "        if context.graph is not None:\n",
        "        if False:\n",
        f"{RUN}::test_a_shape_is_recorded_once_and_then_launched",
    ),
    Mutation(
        "graphs leak",
        RUNNER,
        "            self.session.cuda.free_graph(graph)\n",
        "            pass\n",
        f"{RUN}::test_a_shape_is_recorded_once_and_then_launched",
    ),
    Mutation(
        "the handle of a recording leaks",
        CUDA,
        '            self.call("cudaGraphDestroy", graph)\n',
        "            pass\n",
        f"{RUN}::test_a_shape_is_recorded_once_and_then_launched",
    ),
    Mutation(
        "runs with outputs of unknown size are recorded",
        RUNNER,
        "        if self.records and not self._measured(context):\n",
        "        if self.records:\n",
        f"{RUN}::test_outputs_whose_size_depends_on_the_data_have_the_size_that_the_run_gave_them",
    ),
    Mutation(
        "what an output allocator met is swallowed",
        RUNNER,
        "                raise allocator.error\n",
        "                pass\n",
        f"{RUN}::test_an_output_that_finds_no_room_is_our_error_and_a_smaller_one_works",
    ),
    Mutation(
        "what an output allocator met comes up again",
        RUNNER,
        "            allocator.error = None\n",
        "            pass\n",
        f"{RUN}::test_an_output_that_finds_no_room_is_our_error_and_a_smaller_one_works",
    ),
    Mutation(
        "the budget for streamed weights is not read back",
        RUNNER,
        "    if found != budget and found < int(engine.streamable_weights_size):\n",
        "    if False:\n",
        f"{RUN}::test_streamed_weights_get_a_budget_of_more_than_32_bits_and_it_is_read_back",
    ),
    Mutation(
        "an error while closing hides the first one",
        CUDA,
        "            add_note(first, ",
        "            raise error\n            add_note(first, ",
        f"{RUN}::test_errors_while_closing_never_hide_the_first_one_and_everything_is_tried",
    ),
    Mutation(
        "closing stops at the first thing that cannot be given back",
        CUDA,
        "                failed.append(error)\n",
        "                failed.append(error)\n                break\n",
        f"{RUN}::test_errors_while_closing_never_hide_the_first_one_and_everything_is_tried",
    ),
    Mutation(
        "host memory stays when device memory cannot be freed",
        CUDA,
        "        finally:\n            if host:\n",
        "        except ZeroDivisionError:\n            raise\n        else:\n            if host:\n",
        f"{RUN}::test_errors_while_closing_never_hide_the_first_one_and_everything_is_tried",
    ),
    Mutation(
        "TensorRT-RTX is measured while it still compiles",
        "backends/trt/rtx_cache.py",
        '"LAZY" if quick_start else "EAGER"',
        '"LAZY"',
        f"{RUN}::test_rtx_specializes_its_kernels_before_anything_is_checked_or_measured_unless_asked",
    ),
    Mutation(
        "compiled kernels are not kept",
        "backends/trt/rtx_cache.py",
        "            write_blob(cache, after)\n",
        "            pass\n",
        f"{SURFACES}::test_rtx_keeps_its_kernels_in_a_file_and_records_graphs_itself",
    ),
    # -- build -------------------------------------------------------------------------------------------------
    Mutation(
        "TF32 stays on",
        "backends/trt/configure.py",
        "            config.clear_flag(flag)\n",
        "            pass\n",
        f"{BUILD}::test_tf32_is_off_unless_asked_for",
    ),
    Mutation(
        "networks are weakly typed",
        "backends/trt/parse.py",
        "1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)",
        "0",
        f"{SURFACES}::test_a_plain_build_is_for_the_gpu_at_hand_and_is_inspected",
    ),
    Mutation(
        "outputs may change their type",
        "backends/trt/parse.py",
        "    if dtype != spec.dtype:\n",
        "    if False:\n",
        f"{BUILD}::test_a_float64_output_is_refused_instead_of_narrowed",
    ),
    Mutation(
        "an engine that was refused stays",
        "backends/trt/backend.py",
        "            out.unlink(missing_ok=True)\n",
        "            pass\n",
        f"{SURFACES}::test_an_engine_without_the_precision_of_its_graph_is_refused_unless_allowed",
    ),
    Mutation(
        "an axis without a range is 1",
        "engines/profiles.py",
        "            raise _no_range(spec, axis)\n",
        "            return 1, 1, 1\n",
        f"{PROFILES}::test_an_axis_that_nobody_gave_a_range_is_an_error_that_names_it_and_never_one",
    ),
    Mutation(
        "weights that are floats count as INT8",
        "backends/trt/precision.py",
        "    if layer.weights and layer.weights != asked.precision:\n",
        "    if False:\n",
        f"{PROOF}::test_what_is_not_fused_does_not_count_as_int8",
    ),
    Mutation(
        "one integer operand of two counts as INT8",
        "backends/trt/precision.py",
        " or integers < max(asked.operands, 1)",
        "",
        f"{PROOF}::test_a_product_of_two_activations_needs_both_as_integers",
    ),
    Mutation(
        "reading integers counts as multiplying them",
        "backends/trt/precision.py",
        "    if not layer.multiplies and not _INT8_TACTIC.search(layer.tactic):\n",
        "    if False:\n",
        f"{PROOF}::test_a_generated_kernel_that_reads_integers_proves_nothing_unless_its_tactic_does",
    ),
    # -- cache -------------------------------------------------------------------------------------------------
    Mutation(
        "the configuration is not part of the key",
        "engines/cache.py",
        '        "spec": spec,\n',
        "",
        f"{CACHE}::test_everything_that_decides_a_plan_is_in_its_key",
    ),
    Mutation(
        "the GPU is not part of the key",
        "engines/cache.py",
        '        "machine": dict(sorted(machine.items())),\n',
        "",
        f"{CACHE}::test_everything_that_decides_a_plan_is_in_its_key",
    ),
    Mutation(
        "a damaged plan is taken from the cache",
        "engines/cache.py",
        "            if sha256_file(plan) != record.digest:\n",
        "            if False:\n",
        f"{CACHE}::test_a_damaged_entry_counts_as_absent",
    ),
    Mutation(
        "the most recently used engines are dropped",
        "engines/cache.py",
        ", reverse=True)",
        ", reverse=False)",
        f"{CACHE}::test_the_least_recently_used_engines_are_dropped_beyond_the_limit",
    ),
    Mutation(
        "nobody waits for a lock",
        "engines/cache.py",
        "        lock.acquire()\n",
        "",
        f"{CACHE}::test_a_lock_makes_the_second_wait_for_the_first",
    ),
    # -- preflight ---------------------------------------------------------------------------------------------
    Mutation(
        "another patch release will do",
        "backends/trt/preflight.py",
        "passed, expected = here == built, record.version",
        "passed, expected = here[:2] == built[:2], record.version",
        f"{PREFLIGHT}::test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command",
    ),
    Mutation(
        "a GPU must be later than the oldest that will do",
        "backends/trt/preflight.py",
        "passed = version_tuple(gpu.compute_capability) >= version_tuple(minimum)",
        "passed = version_tuple(gpu.compute_capability) > version_tuple(minimum)",
        f"{PREFLIGHT}::test_an_engine_for_a_gpu_or_later_ones_loads_on_it_and_on_later_ones",
    ),
    Mutation(
        "compute capabilities are compared as text",
        "backends/trt/preflight.py",
        "passed = version_tuple(gpu.compute_capability) >= version_tuple(minimum)",
        "passed = gpu.compute_capability >= minimum",
        f"{PREFLIGHT}::test_an_engine_for_a_gpu_or_later_ones_loads_on_it_and_on_later_ones",
    ),
    Mutation(
        "memory is not compared",
        "backends/trt/preflight.py",
        "free > record.bytes",
        "True",
        f"{PREFLIGHT}::test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command",
    ),
    Mutation(
        "the header is not compared",
        "backends/trt/preflight.py",
        "        magic == flavour.magic,\n",
        "        True,\n",
        f"{PREFLIGHT}::test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command",
    ),
    Mutation(
        "a plan that was changed passes",
        "engines/preflight.py",
        "digest == record.digest",
        "True",
        f"{PREFLIGHT}::test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command",
    ),
    Mutation(
        "host code is loaded unasked",
        "engines/preflight.py",
        "        not record.host_code or host.allow_host_code,\n",
        "        True,\n",
        f"{PREFLIGHT}::test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command",
    ),
    Mutation(
        "the rebuild command names any graph of that name",
        "engines/record.py",
        "        if place.is_file() and sha256_file(place) == record.onnx_digest:\n",
        "        if place.is_file():\n",
        f"{PREFLIGHT}::test_the_rebuild_command_finds_the_graph_by_its_digest",
    ),
    Mutation(
        "the rebuild command forgets a choice",
        "engines/rebuild.py",
        '        (spec.tf32, "--tf32"),\n',
        "",
        f"{PREFLIGHT}::test_the_rebuild_command_repeats_every_choice_and_adds_the_gpu_at_hand",
    ),
    # -- containers --------------------------------------------------------------------------------------------
    Mutation(
        "the config file asks for pixels from 0 to 1",
        DEEPSTREAM,
        '"net-scale-factor=1.0"',
        '"net-scale-factor=0.0039215697906911373"',
        f"{STREAMS}::test_the_folder_has_all_that_its_config_file_names_and_the_engine_is_of_its_own_graph",
    ),
    Mutation(
        "answers stay logits where probabilities are read",
        DEEPSTREAM,
        '"Softmax", [logits]',
        '"Identity", [logits]',
        f"{STREAMS}::test_its_graph_takes_pixels_and_answers_with_the_probabilities_of_the_graph_it_came_from",
    ),
    Mutation(
        "pixels are not divided by the standard deviation",
        DEEPSTREAM,
        '"deepstream/Div" if name == image',
        '"deepstream/Sub" if name == image',
        f"{STREAMS}::test_its_graph_takes_pixels_and_answers_with_the_probabilities_of_the_graph_it_came_from",
    ),
    Mutation(
        "the batch is that of the last profile",
        DEEPSTREAM,
        "record.spec.profiles[0][record.signature.input_names[0]].max",
        "record.spec.profiles[-1][record.signature.input_names[0]].max",
        f"{STREAMS}::test_the_folder_has_all_that_its_config_file_names_and_the_engine_is_of_its_own_graph",
    ),
    Mutation(
        "a detector passes for a classifier",
        DEEPSTREAM,
        'if task != "classify":',
        "if task is None:",
        f"{STREAMS}::test_what_nvinfer_cannot_feed_or_read_is_refused_before_anything_is_built",
    ),
    Mutation(
        "frames of any size are promised",
        DEEPSTREAM,
        "    _input_shape(model, spec)\n\n\ndef pixels",
        "\n\ndef pixels",
        f"{STREAMS}::test_what_nvinfer_cannot_feed_or_read_is_refused_before_anything_is_built",
    ),
    Mutation(
        "a label with a separator becomes two",
        DEEPSTREAM,
        'set(label) & set(";',
        'set(label) & set("',
        f"{STREAMS}::test_what_nvinfer_cannot_feed_or_read_is_refused_before_anything_is_built",
    ),
    Mutation(
        "the folder holds the engine of the ordinary graph",
        "engines/compiling.py",
        "plan = compiler.compile(own, spec,",
        "plan = compiler.compile(model, spec,",
        f"{STREAMS}::test_the_folder_has_all_that_its_config_file_names_and_the_engine_is_of_its_own_graph",
    ),
    # -- DLA preflight -----------------------------------------------------------------------------------------
    Mutation(
        "a kernel of any size passes on a DLA core",
        DLA,
        '_outside("a kernel of", kernel, 1, 32),\n        _outside("a stride',
        '_outside("a kernel of", kernel, 1, 99),\n        _outside("a stride',
        f"{CORES}::test_a_convolution_is_taken_within_its_limits",
    ),
    Mutation(
        "the convolution buffer is endless",
        DLA,
        "if banks > 16 else",
        "if banks > 99 else",
        f"{CORES}::test_a_convolution_needs_room_for_its_weights_and_data",
    ),
    Mutation(
        "the product of two activations passes",
        DLA,
        '    if node.input[1] not in facts.foldable:\n        return False, "the product',
        '    if node.input[1] not in facts.shapes:\n        return False, "the product',
        f"{CORES}::test_channels_are_joined_and_the_product_of_two_activations_is_not_taken",
    ),
    Mutation(
        "tokens pass for planes",
        DLA,
        'return "" if ranks == {4} else',
        'return "" if ranks <= {3, 4} else',
        f"{CORES}::test_tokens_have_no_two_spatial_dimensions",
    ),
    Mutation(
        "a layer behind a Q/DQ pair is promised",
        DLA,
        "    if taken and any(facts.makers[name].op_type ==",
        "    if not taken and any(facts.makers[name].op_type ==",
        f"{CORES}::test_layers_behind_qdq_pairs_are_unsettled_and_the_pairs_are_no_layers",
    ),
    Mutation(
        "an unknown operator passes",
        DLA,
        'return False, f"there is no DLA layer for {node.op_type}"',
        "return _TAKEN",
        f"{CORES}::test_each_operator_has_its_rule",
    ),
    Mutation(
        "open sizes pass",
        DLA,
        "    if any(_is_open(dim) for dim in shape[1:]):\n",
        "    if False:\n",
        f"{CORES}::test_sizes_and_types_rule_out_any_layer",
    ),
    Mutation(
        "build makes a GPU engine where a DLA core was asked for",
        "verbs/build.py",
        '    if engine_options.target == DLA:\n        raise refuse_to_build(deployed_graph(model, verb="build"))\n',
        "",
        f"{CORES}::test_the_commands_say_that_nothing_ran_and_build_builds_nothing",
    ),
    # -- fusions -----------------------------------------------------------------------------------------------
    Mutation(
        "a sum with floats passes for integers",
        "backends/trt/fusing.py",
        'if node.op_type == "Add" and not self._rounded_residual(node, value):',
        "if False:",
        f"{FUSING}::test_a_sum_joins_and_its_pair_too_if_both_operands_are_integers",
    ),
    Mutation(
        "a sum that broadcasts joins a kernel",
        "backends/trt/fusing.py",
        "return other in self.fixed or self.shapes.get(other) == self.shapes.get(value) is not None",
        "return True",
        f"{FUSING}::test_a_constant_that_is_added_costs_nothing_and_a_sum_that_broadcasts_ends_the_kernel",
    ),
    Mutation(
        "a result that somebody reads in floating point fuses with its pair",
        "backends/trt/fusing.py",
        "if value not in self.outputs and readers and len(rounded) == len(readers):",
        "if rounded:",
        f"{FUSING}::test_a_result_that_is_read_in_floating_point_too_is_rounded_apart",
    ),
    Mutation(
        "residual sums are left in floating point",
        "quantization/placing.py",
        "    if placement.residuals:\n",
        "    if False:\n",
        f"{SUMS}::test_convolution_sum_and_the_next_pair_become_one_kernel",
    ),
    Mutation(
        "a residual is rounded though floats are read of the sum",
        "quantization/placing.py",
        "        kept = {node: value for node, value in found.items() if _ends_rounded(node, found, pairs)}\n",
        "        kept = found\n",
        f"{SUMS}::test_a_sum_that_would_not_end_in_integers_keeps_its_operand",
    ),
    Mutation(
        "a residual is rounded though the layer's result is read elsewhere",
        "quantization/placing.py",
        "        if readers_of(result) == (node,) and not result.is_graph_output()",
        "        if not result.is_graph_output()",
        f"{SUMS}::test_a_sum_that_would_not_end_in_integers_keeps_its_operand",
    ),
)
"""All faults; the text of each is looked for by a test, so that the list does not outlive the code."""
