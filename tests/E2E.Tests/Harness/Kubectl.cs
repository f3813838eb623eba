using System.Text.Json.Nodes;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>Runs kubectl, as a person would.</summary>
public sealed class Kubectl(string kubeconfig)
{
    public string Kubeconfig => kubeconfig;

    public Task<CommandResult> TryAsync(string? input, params string[] arguments) =>
        Command.RunAsync(
            "kubectl",
            arguments,
            input,
            TimeSpan.FromMinutes(3),
            ("KUBECONFIG", kubeconfig),
            ("HOME", Path.GetDirectoryName(kubeconfig)!)
        );

    public async Task<string> RunAsync(params string[] arguments) => (await TryAsync(null, arguments)).Ok();

    public async Task<string> ApplyAsync(string yaml, params string[] more) => (await TryAsync(yaml, ["apply", "-f", "-", .. more])).Ok();

    public async Task<JsonNode> GetAsync(params string[] arguments) => JsonNode.Parse(await RunAsync(["get", "-o", "json", .. arguments]))!;

    /// <summary>The object, or null.</summary>
    public async Task<JsonNode?> FindAsync(params string[] arguments)
    {
        var text = await RunAsync(["get", "-o", "json", "--ignore-not-found", .. arguments]);
        return string.IsNullOrWhiteSpace(text) ? null : JsonNode.Parse(text);
    }

    /// <summary>Waits until an object meets the condition; otherwise fails the test and shows the object.</summary>
    public async Task<JsonNode> UntilAsync(string what, Func<JsonNode, bool> wanted, TimeSpan limit, params string[] arguments)
    {
        var end = DateTime.UtcNow + limit;
        JsonNode? last = null;
        while (true)
        {
            try
            {
                last = await FindAsync(arguments);
                if (last is not null && wanted(last))
                    return last;
            }
            catch (InvalidOperationException) when (DateTime.UtcNow < end)
            {
                // The API server is briefly unavailable, as some tests intend.
            }
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"{what}: not within {limit}; {string.Join(' ', arguments)} is\n{last}");
            await Task.Delay(300);
        }
    }

    /// <summary>Waits until an object is gone.</summary>
    public async Task GoneAsync(TimeSpan limit, params string[] arguments)
    {
        var end = DateTime.UtcNow + limit;
        while (await FindAsync(arguments) is { } still && (still["items"] is not JsonArray items || items.Count > 0))
        {
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"{string.Join(' ', arguments)} is still there after {limit}:\n{still}");
            await Task.Delay(300);
        }
    }
}
