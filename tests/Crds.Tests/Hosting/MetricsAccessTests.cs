using System.Net;
using System.Text;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Crds.Tests.Client;
using Microsoft.Extensions.Time.Testing;

namespace Bgsnap.Crds.Tests.Hosting;

public sealed class MetricsAccessTests
{
    private readonly FakeTimeProvider _clock = new();
    private readonly List<string> _asked = [];
    private bool _authenticated = true,
        _allowed = true;

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("Basic dXNlcjpwYXNz")]
    public async Task Without_a_token_it_is_refused_and_nobody_is_asked(string? authorization)
    {
        Assert.Equal(401, (await Access().Refusal(authorization, default))!.Value.Status);
        Assert.Empty(_asked);
    }

    [Fact]
    public async Task With_a_bad_token_it_is_refused()
    {
        _authenticated = false;
        Assert.Equal(401, (await Access().Refusal("Bearer bad", default))!.Value.Status);
        Assert.Contains("\"token\":\"bad\"", Assert.Single(_asked), StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_account_without_the_right_is_refused()
    {
        _allowed = false;
        Assert.Equal(403, (await Access().Refusal("Bearer good", default))!.Value.Status);
    }

    [Fact]
    public async Task An_account_with_the_right_is_let_in_and_not_asked_again_for_a_minute()
    {
        MetricsAccess access = Access();
        Assert.Null(await access.Refusal("Bearer good", default));
        Assert.Equal(2, _asked.Count);
        Assert.Contains(
            """{"user":"prometheus","groups":["system:authenticated"],"nonResourceAttributes":{"path":"/metrics","verb":"get"}}""",
            _asked[1],
            StringComparison.Ordinal
        );
        _clock.Advance(TimeSpan.FromSeconds(59));
        Assert.Null(await access.Refusal("Bearer good", default));
        Assert.Equal(2, _asked.Count);
        _clock.Advance(TimeSpan.FromSeconds(2));
        _allowed = false;
        Assert.Equal(403, (await access.Refusal("Bearer good", default))!.Value.Status);
    }

    [Fact]
    public async Task Each_token_is_for_itself()
    {
        MetricsAccess access = Access();
        Assert.Null(await access.Refusal("Bearer good", default));
        _authenticated = false;
        Assert.Equal(401, (await access.Refusal("Bearer other", default))!.Value.Status);
        Assert.Null(await access.Refusal("Bearer good", default));
    }

    [Fact]
    public async Task Strangers_with_many_tokens_fill_no_memory()
    {
        MetricsAccess access = Access();
        _authenticated = false;
        for (int i = 0; i < 1000; i++)
            await access.Refusal("Bearer " + i, default);
        Assert.InRange(access.Known, 1, 100);
    }

    [Fact]
    public async Task An_answer_that_could_not_be_had_is_not_kept()
    {
        bool down = true;
        MetricsAccess access = new(
            new ScriptedHandler((r, s) => down ? throw new HttpRequestException("connection refused") : Answer(r, s)).Client,
            _clock
        );
        await Assert.ThrowsAsync<HttpRequestException>(() => access.Refusal("Bearer good", default));
        down = false;
        Assert.Null(await access.Refusal("Bearer good", default));
    }

    private MetricsAccess Access() => new(new ScriptedHandler(Answer).Client, _clock);

    private async Task<HttpResponseMessage> Answer(HttpRequestMessage request, CancellationToken stop)
    {
        _asked.Add(await request.Content!.ReadAsStringAsync(stop));
        string answer = request.RequestUri!.AbsolutePath switch
        {
            "/apis/authentication.k8s.io/v1/tokenreviews" => _authenticated
                ? """{"status":{"authenticated":true,"user":{"username":"prometheus","groups":["system:authenticated"]}}}"""
                : """{"status":{"error":"invalid bearer token"}}""",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => _allowed
                ? """{"status":{"allowed":true}}"""
                : """{"status":{"allowed":false}}""",
            _ => throw new InvalidOperationException(request.RequestUri.AbsolutePath),
        };
        return new HttpResponseMessage(HttpStatusCode.Created) { Content = new StringContent(answer, Encoding.UTF8, "application/json") };
    }
}
