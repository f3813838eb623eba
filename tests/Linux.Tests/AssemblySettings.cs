// Virtual machines share two cores and the kernel's huge pages: one test at a time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
