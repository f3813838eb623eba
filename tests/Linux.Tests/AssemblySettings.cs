// Most tests wait: for a guest that boots, for a capture that a limit slows down. So three run on two cores, one class each.
[assembly: CollectionBehavior(MaxParallelThreads = 3)]
[assembly: TestCollectionOrderer("Bgsnap.Linux.Tests.LongestFirst", "Linux.Tests")]
