using Bgsnap.Engine.Disks.Graph;
using Bgsnap.NodeAgent.Tests.Qmp;

namespace Bgsnap.NodeAgent.Tests.Disks;

/// <summary>QEMU's own report of which block node uses which.</summary>
public class NodeGraphTests
{
    // A foreign mirror above our nodes: query-block would name agent-disk-0 as the drive's node.
    private static readonly NodeGraph Graph = NodeGraph.Of(
        QmpValueTests.Of(
            """
            {"nodes": [
              {"id": 1, "type": "block-driver", "name": "agent-disk-0"}, {"id": 2, "type": "block-driver", "name": "agent-switch-0"},
              {"id": 3, "type": "block-driver", "name": "image"}, {"id": 4, "type": "block-driver", "name": "#block9"},
              {"id": 5, "type": "block-job", "name": "theirs"}, {"id": 6, "type": "block-backend", "name": "vda"},
              {"id": 7, "type": "block-driver", "name": "other"}],
             "edges": [
              {"parent": 1, "child": 2, "name": "file"}, {"parent": 2, "child": 3, "name": "file"}, {"parent": 4, "child": 1, "name": "backing"},
              {"parent": 5, "child": 4, "name": "main node"}, {"parent": 5, "child": 1, "name": "source"}, {"parent": 6, "child": 4, "name": "root"}]}
            """
        )
    );

    [Fact]
    public void A_node_is_followed_down()
    {
        Assert.Equal(
            ("agent-switch-0", "image", null),
            (Graph.FileOf("agent-disk-0"), Graph.FileOf("agent-switch-0"), Graph.FileOf("image"))
        );
        Assert.True(Graph.Has("image") && !Graph.Has("theirs") && !Graph.Has("vda"));
    }

    [Fact]
    public void Filters_and_jobs_above_a_node_are_seen_and_devices_are_not()
    {
        Assert.Equal(["#block9", "theirs"], Graph.UsersOf("agent-disk-0"));
        Assert.Equal(["agent-switch-0"], Graph.UsersOf("image"));
        Assert.DoesNotContain(Graph.UsersOf("#block9"), u => u != "theirs");
        Assert.True(Graph.IsRoot("#block9") && !Graph.IsRoot("agent-disk-0"));
    }

    [Fact]
    public void A_job_reaches_the_disk_that_it_works_on()
    {
        Assert.True(Graph.Reaches("theirs", "image"));
        Assert.False(Graph.Reaches("theirs", "other"));
        Assert.False(Graph.Reaches("vda", "image"));
    }
}
