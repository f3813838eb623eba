// The virtual machines share two cores and the kernel's huge pages, so only one test runs at a time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
