using System.CommandLine;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public class RestoreChildTests
{
    [Theory]
    [InlineData("All", null, null, null, "--disks=all --mode=auto")]
    [InlineData(null, "Stream", null, null, "--disks=all --mode=stream")]
    [InlineData("None", "Instant", "200Mi", null, "--disks=none --mode=instant --bandwidth-limit=200Mi")]
    [InlineData("None", "Eager", null, "/proc/1/fd/9", "--disks=none --mode=eager")]
    public void The_command_line_is_one_that_the_command_takes(
        string? disks,
        string? mode,
        string? rate,
        string? guestAgent,
        string expected
    )
    {
        TaskRestore how = new()
        {
            Disks = disks,
            Mode = mode,
            BandwidthLimit = rate,
        };
        string[] line = [.. RestoreChild.Arguments(new TaskMonitor(new string('a', 64)) { Pid = 4711 }, "/proc/1/fd/8", guestAgent, how)];

        string[] agent = guestAgent is null ? [] : ["--guest-agent=" + guestAgent];
        Assert.Equal(
            ["restore", "/proc/1/fd/8", "--json", "--pid=4711", "--container=" + new string('a', 64), .. expected.Split(' '), .. agent],
            line
        );
        Assert.Empty(
            new RootCommand { RestoreCommand.Create([]) }
                .Parse(line)
                .Errors
        );
    }

    [Fact]
    public void What_is_left_of_a_task_is_said_for_each_action()
    {
        string[] actions = [TaskAction.Capture, TaskAction.Delete, TaskAction.Restore, TaskAction.RestoreDisks, TaskAction.Describe];

        Assert.Equal(5, actions.Select(TaskMessages.After).Distinct().Count());
        Assert.Contains("does not run", TaskMessages.After(TaskAction.Restore), StringComparison.Ordinal);
        Assert.DoesNotContain("guest", TaskMessages.After(TaskAction.Capture), StringComparison.Ordinal); // only QEMU knows
    }
}
