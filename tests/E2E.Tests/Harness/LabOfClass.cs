namespace Bgsnap.E2E.Tests.Harness;

/// <summary>One lab for all tests of a class that do not disturb each other.</summary>
public sealed class LabOfClass(ClusterFixture cluster) : IAsyncLifetime
{
    /// <summary>The lab; tests call <see cref="ClusterFixture.Need"/> first.</summary>
    public Lab Lab { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        if (cluster.Missing is null)
            Lab = await Lab.CreateAsync(cluster);
    }

    public async Task DisposeAsync()
    {
        if (Lab is not null)
            await Lab.DisposeAsync();
    }
}
