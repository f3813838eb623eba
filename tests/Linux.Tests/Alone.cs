namespace Bgsnap.Linux.Tests;

/// <summary>
/// Test classes that run when no other class does: they change settings of the whole host, read what the whole host did, or need all of
/// its memory and cores.
/// </summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public static class Alone
{
    public const string Name = "alone";
}
