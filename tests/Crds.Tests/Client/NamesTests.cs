using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Crds.Tests.Client;

public sealed class NamesTests
{
    [Fact]
    public void A_nodes_label_is_its_name_where_that_fits()
    {
        Assert.Equal("node-1.example.org", Names.NodeLabelValue("node-1.example.org"));
        Assert.Equal(new string('a', 63), Names.NodeLabelValue(new string('a', 63)));
    }

    [Fact]
    public void A_longer_name_becomes_a_label_that_is_allowed_and_its_own()
    {
        string one = new string('a', 53) + ".b" + new string('c', 40) + "1",
            two = one[..^1] + "2";
        Assert.Matches("^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$", Names.NodeLabelValue(one));
        Assert.NotEqual(Names.NodeLabelValue(one), Names.NodeLabelValue(two));
        Assert.Equal(Names.NodeLabelValue(one), Names.NodeLabelValue(one));
    }

    [Theory]
    [InlineData("containerd://abc", true, "abc")]
    [InlineData("abc", true, "abc")]
    [InlineData("containerd://abc", false, null)]
    [InlineData(null, true, null)]
    public void A_running_containers_id_is_without_the_runtimes_name(string? id, bool running, string? expected)
    {
        PodSummary pod = new()
        {
            Status = new PodStatusSummary
            {
                ContainerStatuses =
                [
                    new ContainerStatusSummary
                    {
                        Name = "other",
                        ContainerID = "containerd://xyz",
                        State = new ContainerStateSummary { Running = new ContainerStateDetail() },
                    },
                    new ContainerStatusSummary
                    {
                        Name = "c",
                        ContainerID = id,
                        State = running
                            ? new ContainerStateSummary { Running = new ContainerStateDetail() }
                            : new ContainerStateSummary { Waiting = new ContainerStateDetail() },
                    },
                ],
            },
        };
        Assert.Equal(expected, pod.RunningContainerId("c"));
        Assert.Null(pod.RunningContainerId("third"));
    }
}
