"""How XLA compiles where programs take longer to compile than to run."""

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
