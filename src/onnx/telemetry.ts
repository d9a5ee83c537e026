/** Imported before onnxruntime-node: its Linux build reports usage over the network unless told not to. */
process.env.ORT_DISABLE_TELEMETRY ??= '1';
