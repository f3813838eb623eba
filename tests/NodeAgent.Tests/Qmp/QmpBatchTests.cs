using System.Text;
using System.Text.Json;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Qmp;

/// <summary>What a batch sends.</summary>
public sealed class QmpBatchTests
{
    /// <summary>QEMU sends the answer meant for a dead client to the next one, which recognises by the id that it is not its own.</summary>
    [Fact]
    public void Every_command_bears_an_id_of_its_own()
    {
        QmpBatch batch = new();
        batch.Add("stop");
        batch.Add("qom-set", """{"path":"vda"}""");

        string[] lines = Encoding.UTF8.GetString(batch.Bytes).Split('\n', StringSplitOptions.RemoveEmptyEntries);

        List<string?> ids = [.. lines.Select(l => JsonSerializer.Deserialize<JsonElement>(l).GetProperty("id").GetString())];
        Assert.Equal(2, ids.Distinct().Count());
        Assert.All(ids, id => Assert.StartsWith("bgsnap-", id, StringComparison.Ordinal));
    }
}
