using System.CommandLine;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public class RestoreChildTests
{
    [Theory]
    [InlineData(true, "all", null)]
    [InlineData(false, "none", null)]
    [InlineData(false, "none", "/proc/1/fd/9")]
    public void The_command_line_is_one_that_the_command_takes(bool disks, string expected, string? guestAgent)
    {
        string[] line = [.. RestoreChild.Arguments("/proc/1/fd/7", new string('a', 64), "/proc/1/fd/8", guestAgent, disks)];

        string[] agent = guestAgent is null ? [] : ["--guest-agent=" + guestAgent];
        Assert.Equal(["restore", "/proc/1/fd/8", "--json", "--qmp=/proc/1/fd/7", "--container=" + new string('a', 64), "--disks=" + expected, .. agent], line);
        Assert.Empty(new RootCommand { RestoreCommand.Create([]) }.Parse(line).Errors);
    }

    [Fact]
    public void What_is_left_of_a_task_is_said_for_each_action()
    {
        string[] actions = [TaskAction.Capture, TaskAction.Delete, TaskAction.Restore, TaskAction.RestoreDisks];

        Assert.Equal(4, actions.Select(TaskTexts.After).Distinct().Count());
        Assert.Contains("does not run", TaskTexts.After(TaskAction.Restore), StringComparison.Ordinal);
        Assert.Contains("guest runs on", TaskTexts.After(TaskAction.Capture), StringComparison.Ordinal);
    }
}
