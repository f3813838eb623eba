using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.NodeAgent.Tests.Store;

namespace Bgsnap.NodeAgent.Tests.Cli;

/// <summary>When a container runs out of memory, the kernel ends one process, not all.</summary>
public sealed class OomGroupTests : IDisposable
{
    private readonly TempDirectory _folder = new();

    [Theory]
    [InlineData("0::/\n", "", "1\n", "0")]
    [InlineData("12:memory:/a\n0::/kubepods/pod1/c\n", "kubepods/pod1/c", "1\n", "0")]
    [InlineData("0::/\n", "", "0\n", "0\n")]
    [InlineData("12:memory:/\n", "", "1\n", "1\n")] // version 1: not ours
    public void Its_own_cgroup_is_taken_out(string membership, string folder, string before, string after)
    {
        Directory.CreateDirectory(_folder.Sub(folder));
        string file = Path.Join(_folder.Path, folder, "memory.oom.group");
        File.WriteAllText(file, before);

        Assert.Null(OomGroup.End(Membership(membership), _folder.Path));

        Assert.Equal(after, File.ReadAllText(file));
    }

    [Fact]
    public void Without_such_a_file_there_is_nothing_to_do() => Assert.Null(OomGroup.End(Membership("0::/gone\n"), _folder.Path));

    [Fact]
    public void What_cannot_be_known_is_said() => Assert.NotNull(OomGroup.End(_folder.Sub("no-such-file"), _folder.Path));

    private string Membership(string text)
    {
        File.WriteAllText(_folder.Sub("membership"), text);
        return _folder.Sub("membership");
    }

    public void Dispose() => _folder.Dispose();
}
