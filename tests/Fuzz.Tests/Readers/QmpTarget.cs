using System.Text;
using System.Text.Json;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Fuzz.Readers;

/// <summary>What a QEMU says over QMP: greeting, answers, errors, events.</summary>
internal sealed class QmpTarget : FuzzTarget
{
    private readonly Peer _peer = new();

    internal override string Name => "qmp";

    internal override bool IsRefusal(Exception e) => e is QmpException;

    internal override long AllocationLimit(int length) => (1 << 20) + (256L * length);

    internal override void Read(byte[] input)
    {
        _peer.Say(input);
        using QmpClient qmp = QmpClient.Connect(_peer.Path);
        Promise(qmp.QemuVersion.Major >= 0, "a version without a number");
        using (QmpAnswer answer = qmp.Execute("query-name"))
            _ = answer.Return.GetProperty("name").GetString();
        _ = qmp.IsRunning();
        _ = qmp.ExecuteHuman("info ramblock");
        QmpBatch batch = new();
        batch.Add("stop");
        batch.Add("cont");
        batch.Send(qmp);
        batch.Poll(qmp);
        // Those that came with answers: reading on would only meet the end.
        foreach (QmpEvent e in qmp.TakeEvents(read: false))
        {
            if (e.Data.Length > 0)
                JsonDocument.Parse(e.Data).Dispose();
        }
    }

    internal override IReadOnlyList<byte[]> Words => Peer.JsonWords;

    internal override IEnumerable<byte[]> Samples() =>
        [
            .. new[]
            {
                Greeting
                    + "{\"return\": {}}\r\n{\"return\": {\"name\": \"db\"}}\r\n{\"return\": {\"running\": true, \"singlestep\": "
                    + "false, \"status\": \"running\"}}\r\n{\"return\": \"table\\r\\n\"}\r\n{\"return\": {}}\r\n{\"return\": {}}\r\n",
                Greeting
                    + "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 1}, \"event\": \"NIC_RX_FILTER_CHANGED\", "
                    + "\"data\": {\"path\": \"/machine\"}}\r\n{\"return\": {}}\r\n{\"error\": {\"class\": \"CommandNotFound\", "
                    + "\"desc\": \"The command query-name has not been found\"}}\r\n",
                Greeting
                    + "{\"return\": {}, \"id\": \"another-1\"}\r\n{\"return\": {}}\r\n{\"return\": {}}\r\n{\"return\": "
                    + "{\"running\": false}}\r\n{\"return\": \"\"}\r\n{\"timestamp\": {\"seconds\": 1, \"microseconds\": 1}, "
                    + "\"event\": \"STOP\"}\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n{\"return\": "
                    + "{}}\r\n{\"timestamp\": {\"seconds\": 1, \"microseconds\": 1}, \"event\": \"RESUME\"}\r\n",
            }.Select(Encoding.UTF8.GetBytes),
        ];

    internal const string Greeting =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": \"\"}, \"capabilities\": "
        + "[\"oob\"]}}\r\n";

    protected override void CleanUp() => _peer.Dispose();
}
