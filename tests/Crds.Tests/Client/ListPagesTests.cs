using System.Net;
using System.Text;
using System.Web;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Crds.Tests.Client;

/// <summary>A long list comes in pages.</summary>
public sealed class ListPagesTests
{
    private readonly List<string> _asked = [];

    /// <summary>Answers lists of so many objects in pages; <paramref name="refuse"/> may answer in its place.</summary>
    private ApiClient Server(int count, Func<int, string?, HttpResponseMessage?>? refuse = null) =>
        new ScriptedHandler(
            (request, _) =>
            {
                string query = request.RequestUri!.Query;
                _asked.Add(query);
                var words = HttpUtility.ParseQueryString(query);
                Assert.Equal("a=b", words["labelSelector"]);
                int begin = words["continue"] is { } token ? int.Parse(token["from/".Length..]) : 0;
                int end = words["limit"] is { } limit ? Math.Min(count, begin + int.Parse(limit)) : count;
                if (refuse?.Invoke(_asked.Count, words["continue"]) is { } refusal)
                    return Task.FromResult(refusal);
                string items = string.Join(
                    ',',
                    Enumerable.Range(begin, end - begin).Select(i => $$"""{"metadata":{"name":"t{{i}}"},"spec":{} }""")
                );
                string next = end < count ? $",\"continue\":\"from/{end}\",\"remainingItemCount\":{count - end}" : "";
                return Task.FromResult(
                    Json(HttpStatusCode.OK, $$"""{"metadata":{"resourceVersion":"{{41 + _asked.Count}}"{{next}} },"items":[{{items}}]}""")
                );
            }
        ).Client;

    [Theory]
    [InlineData(0, 1)]
    [InlineData(499, 1)]
    [InlineData(500, 1)]
    [InlineData(501, 2)]
    [InlineData(1700, 4)]
    public async Task All_pages_are_one_list(int count, int pages)
    {
        ResourceList<SnapshotTask> list = await Server(count).List(Resources.Tasks, "ns", "a=b", default);
        Assert.Equal(Enumerable.Range(0, count).Select(i => $"t{i}"), list.Items.Select(t => t.Metadata.Name));
        Assert.Equal(pages, _asked.Count);
        Assert.All(_asked, q => Assert.Contains("limit=500", q, StringComparison.Ordinal));
        if (pages > 1)
            Assert.EndsWith("&continue=from%2F500", _asked[1], StringComparison.Ordinal);
        // The last page's, from which a watch goes on.
        Assert.Equal($"{41 + pages}", list.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task When_it_has_grown_too_old_in_between_it_is_read_anew_and_in_one_piece()
    {
        ResourceList<SnapshotTask> list = await Server(1700, (_, token) => token == "from/1000" ? Gone() : null)
            .List(Resources.Tasks, "ns", "a=b", default);
        Assert.Equal(Enumerable.Range(0, 1700).Select(i => $"t{i}"), list.Items.Select(t => t.Metadata.Name));
        Assert.Equal(4, _asked.Count);
        Assert.Equal("?labelSelector=a%3Db", _asked[3]);
        Assert.Equal("45", list.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task A_server_that_says_so_of_everything_is_asked_twice_and_no_more()
    {
        ApiException e = await Assert.ThrowsAsync<ApiException>(() =>
            Server(10, (_, _) => Gone()).List(Resources.Tasks, "ns", "a=b", default)
        );
        Assert.Equal((410, 2), (e.Code, _asked.Count));
    }

    [Fact]
    public async Task Other_trouble_in_the_middle_is_the_callers()
    {
        ApiException e = await Assert.ThrowsAsync<ApiException>(() =>
            Server(1000, (n, _) => n == 2 ? Json(HttpStatusCode.ServiceUnavailable, "{}") : null)
                .List(Resources.Tasks, "ns", "a=b", default)
        );
        Assert.Equal((503, 2), (e.Code, _asked.Count));
    }

    private static HttpResponseMessage Gone() =>
        Json(
            HttpStatusCode.Gone,
            """{"kind":"Status","status":"Failure","reason":"Expired","message":"The provided continue parameter is too old","code":410}"""
        );

    private static HttpResponseMessage Json(HttpStatusCode code, string body) =>
        new(code) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
}
