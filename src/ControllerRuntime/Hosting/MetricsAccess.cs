using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;

namespace Bgsnap.ControllerRuntime.Hosting;

/// <summary>
/// Lets those read metrics whom the cluster lets: the bearer token is checked by a TokenReview, the right to get /metrics by a
/// SubjectAccessReview, as controllers with a metrics endpoint do. Answers are kept for a minute.
/// </summary>
public sealed class MetricsAccess(IApiClient api, TimeProvider? clock = null)
{
    private static readonly TimeSpan Kept = TimeSpan.FromMinutes(1);
    private const int MostKept = 100;
    private readonly TimeProvider _clock = clock ?? TimeProvider.System;
    private readonly ConcurrentDictionary<string, (DateTimeOffset Until, HttpAnswer? Refusal)> _known = new();

    /// <summary>Answers that are kept.</summary>
    internal int Known => _known.Count;

    /// <summary>The answer that refuses the caller, or null when it may read.</summary>
    public async Task<HttpAnswer?> Refusal(string? authorization, CancellationToken stop)
    {
        if (authorization is null || !authorization.StartsWith("Bearer ", StringComparison.Ordinal))
            return new HttpAnswer(401, "a bearer token is needed\n");
        string token = authorization["Bearer ".Length..].Trim();
        string key = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(token)));
        DateTimeOffset now = _clock.GetUtcNow();
        if (_known.TryGetValue(key, out (DateTimeOffset Until, HttpAnswer? Refusal) known) && known.Until > now)
            return known.Refusal;
        HttpAnswer? refusal = await Ask(token, stop).ConfigureAwait(false);
        if (_known.Count >= MostKept)
            _known.Clear();
        _known[key] = (now + Kept, refusal);
        return refusal;
    }

    private async Task<HttpAnswer?> Ask(string token, CancellationToken stop)
    {
        JsonElement review = await api.Post(
                "apis/authentication.k8s.io/v1/tokenreviews",
                new JsonObject
                {
                    ["apiVersion"] = "authentication.k8s.io/v1",
                    ["kind"] = "TokenReview",
                    ["spec"] = new JsonObject { ["token"] = token },
                },
                RuntimeJson.Default.JsonElement,
                stop
            )
            .ConfigureAwait(false);
        JsonElement status = review.GetProperty("status");
        if (!status.TryGetProperty("authenticated", out JsonElement yes) || yes.ValueKind != JsonValueKind.True)
            return new HttpAnswer(401, "the token is not valid\n");
        JsonElement user = status.GetProperty("user");
        JsonArray groups = [];
        if (user.TryGetProperty("groups", out JsonElement list))
            foreach (JsonElement g in list.EnumerateArray())
                groups.Add((JsonNode?)JsonValue.Create(g.GetString()));
        JsonElement allowed = await api.Post(
                "apis/authorization.k8s.io/v1/subjectaccessreviews",
                new JsonObject
                {
                    ["apiVersion"] = "authorization.k8s.io/v1",
                    ["kind"] = "SubjectAccessReview",
                    ["spec"] = new JsonObject
                    {
                        ["user"] = user.GetProperty("username").GetString(),
                        ["groups"] = groups,
                        ["nonResourceAttributes"] = new JsonObject { ["path"] = "/metrics", ["verb"] = "get" },
                    },
                },
                RuntimeJson.Default.JsonElement,
                stop
            )
            .ConfigureAwait(false);
        return allowed.GetProperty("status").GetProperty("allowed").GetBoolean()
            ? null
            : new HttpAnswer(403, "this account may not get /metrics\n");
    }
}
